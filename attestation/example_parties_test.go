package attestation_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// A gateway asks the enclave behind it for a document before it passes
// anything on, with a nonce of its own in the query.
func ExampleVerifier_Verify_gateway() {
	image := []byte("release 4.1")
	device, err := nsmtest.New(nsmtest.Options{Image: image})
	if err != nil {
		log.Fatal(err)
	}
	session := nsm.NewSession(device)

	// The enclave's side: others choose the nonce, and nothing else.
	enclave := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nonce, err := hex.DecodeString(r.FormValue("nonce"))
		if err != nil || len(nonce) < 16 || len(nonce) > 64 {
			http.Error(w, "nonce: 16 to 64 bytes in hexadecimal", http.StatusBadRequest)
			return
		}
		raw, err := session.Attest(r.Context(), nsm.AttestationRequest{Nonce: nonce})
		if err != nil {
			http.Error(w, "no document", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, base64.StdEncoding.EncodeToString(raw))
	}))
	defer enclave.Close()

	// The gateway's side.
	pcr0, pcr1, pcr2 := nsmtest.Measure(image)
	verifier, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{{Name: "4.1", PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2}}},
		Roots:        []*x509.Certificate{device.Root()}, // leave out for real enclaves
	})
	if err != nil {
		log.Fatal(err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	response, err := http.Get(enclave.URL + "/?nonce=" + hex.EncodeToString(nonce))
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 2*attestation.MaxDocumentSize))
	if err != nil {
		log.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		log.Fatal(err)
	}
	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("passing on to release", doc.Checked.Measurement)
	// Output:
	// passing on to release 4.1
}

// A CI job checks that what runs in staging is the release that it built: the
// measurement comes from the file in which nitro-cli's output was kept.
func ExampleParseMeasurement() {
	built := []byte(`{
  "Measurements": {
    "HashAlgorithm": "Sha384 { ... }",
    "PCR0": "287b24930a9f0fe14b01a71ecdc00d8be8fad90f9834d547158854b8279c74095c43f8d7f047714e98deb7903f20e3dd",
    "PCR1": "aca6e62ffbf5f7deccac452d7f8cee1b94048faf62afc16c8ab68c9fed8c38010c73a669f9a36e596032f0b973d21895",
    "PCR2": "0315f483ae1220b5e023d8c80ff1e135edcca277e70860c31f3003b36e3b2aaec5d043c9ce3a679e3bbd5b3b93b61d6f"
  }
}`)
	release, err := attestation.ParseMeasurement(built)
	if err != nil {
		log.Fatal(err)
	}
	release.Name = "staging"
	verifier, err := attestation.NewVerifier(attestation.Policy{Measurements: []attestation.Measurement{release}})
	if err != nil {
		log.Fatal(err)
	}

	// What runs there is another build, and its document has another root, too.
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("another build")})
	if err != nil {
		log.Fatal(err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	_, err = verifier.Verify(attestIn(device, nonce), attestation.Expect{Nonce: nonce})
	fmt.Println(err)
	// Output:
	// attestation: Verify: untrusted-root: cabundle[0]: is no root that this verifier trusts: it bears AWS's name but is not AWS's root; it is forged, or a test's that is not in Policy.Roots
}

// An auditor looks at a document that was archived with the time of its receipt
// and the nonce that was sent, years after its certificates have expired.
func ExampleExpect_audit() {
	received := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	nonce := []byte("order 4711, 2024-02-29")
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("release 2"), Clock: func() time.Time { return received }})
	if err != nil {
		log.Fatal(err)
	}
	archived, err := nsm.NewSession(device).Attest(context.Background(), nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}

	pcr0, pcr1, pcr2 := nsmtest.Measure([]byte("release 2"))
	verifier, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{{Name: "release 2", PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2}}},
		Roots:        []*x509.Certificate{device.Root()},
	})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := verifier.Verify(archived, attestation.Expect{Nonce: nonce, At: received})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.Checked.Measurement, "ran at", doc.Timestamp, "historical:", doc.Checked.Historical)
	// Output:
	// release 2 ran at 2024-02-29 12:00:00 +0000 UTC historical: true
}
