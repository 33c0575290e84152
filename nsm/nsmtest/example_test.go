package nsmtest_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// A session with a software NSM behaves as inside an enclave.
func Example() {
	module, err := nsmtest.New(nsmtest.Options{Image: []byte("my image")})
	if err != nil {
		log.Fatal(err)
	}
	session := nsm.NewSession(module)
	defer session.Close()

	document, err := session.Attest(context.Background(), nsm.AttestationRequest{Nonce: []byte("challenge")})
	if err != nil {
		log.Fatal(err)
	}
	pcr0, _, _ := nsmtest.Measure([]byte("my image"))
	fmt.Println("a document:", len(document) > 4000)
	fmt.Println("PCR0 as expected:", module.PCR(0) == pcr0)
	fmt.Println("signed under:", module.Root().Subject)
	// Output:
	// a document: true
	// PCR0 as expected: true
	// signed under: CN=aws.nitro-enclaves,OU=AWS,O=Amazon,C=US
}

// A verifier must refuse a document with a wrong digest name, and a chain whose
// leaf may sign certificates.
func ExamplePKIOptions() {
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{
		EditCertificate: func(level nsmtest.Level, template *x509.Certificate) {
			if level == nsmtest.LevelLeaf {
				template.IsCA = true
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	module, err := nsmtest.New(nsmtest.Options{
		PKI:          pki,
		EditDocument: func(d *nsmtest.Document) { d.Digest = "SHA256" },
	})
	if err != nil {
		log.Fatal(err)
	}
	document, err := nsm.NewSession(module).Attest(context.Background(), nsm.AttestationRequest{})
	fmt.Println(len(document) > 0, err)
	// Output: true <nil>
}

// What was recorded once can be replayed anywhere.
func ExampleRecorder() {
	dir, err := os.MkdirTemp("", "recording")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "session.json")

	// Inside an enclave the device would be that of nsm.OpenDevice.
	device, err := nsmtest.New(nsmtest.Options{ModuleID: "i-1-enc2"})
	if err != nil {
		log.Fatal(err)
	}
	recorder := nsmtest.NewRecorder(device)
	session := nsm.NewSession(recorder)
	if _, err := session.Describe(context.Background()); err != nil {
		log.Fatal(err)
	}
	session.Close()
	if err := recorder.WriteFile(path); err != nil {
		log.Fatal(err)
	}

	recording, err := nsmtest.LoadRecording(path)
	if err != nil {
		log.Fatal(err)
	}
	replayed := nsm.NewSession(recording.Replay())
	defer replayed.Close()
	description, err := replayed.Describe(context.Background())
	fmt.Println(description.ModuleID, err)
	// Output: i-1-enc2 <nil>
}
