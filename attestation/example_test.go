package attestation_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// A relying party sends an enclave a nonce and verifies the document that
// comes back. The enclave here is a software one, so its root is trusted in
// place of AWS's: leave Policy.Roots out for real enclaves.
func ExampleVerifier_Verify() {
	enclave, err := nsmtest.New(nsmtest.Options{Image: []byte("release 4.1")})
	if err != nil {
		log.Fatal(err)
	}

	// At start: what nitro-cli build-enclave printed for the release.
	pcr0, pcr1, pcr2 := nsmtest.Measure([]byte("release 4.1"))
	verifier, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{{
			Name: "release 4.1",
			PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2},
		}},
		Roots: []*x509.Certificate{enclave.Root()},
	})
	if err != nil {
		log.Fatal(err)
	}

	// For each document: a nonce of one's own.
	nonce := make([]byte, 32)
	rand.Read(nonce)
	raw := attestIn(enclave, nonce)

	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.Checked.Measurement, doc.Checked.PCRs, doc.Checked.Nonce)

	// The same document for another nonce is a replay.
	_, err = verifier.Verify(raw, attestation.Expect{Nonce: []byte("another nonce")})
	var rejected *attestation.Error
	if errors.As(err, &rejected) {
		fmt.Println(rejected.Reason)
	}
	// Output:
	// release 4.1 [0 1 2] true
	// nonce
}

// attestIn is the enclave's side.
func attestIn(device nsm.Device, nonce []byte) []byte {
	raw, err := nsm.NewSession(device).Attest(context.Background(), nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	return raw
}

// An empty policy would accept any enclave of anyone, so there is none.
func ExampleNewVerifier_empty() {
	_, err := attestation.NewVerifier(attestation.Policy{})
	fmt.Println(err)
	// Output:
	// attestation: NewVerifier: invalid-policy: Measurements: is empty, which would accept any enclave; give the PCRs that nitro-cli build-enclave printed, or set UnsafeAnyMeasurement
}

// Looking at a document without believing it.
func ExampleParseUnverified() {
	enclave, err := nsmtest.New(nsmtest.Options{InstanceID: "i-0123456789abcdef0", ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", Debug: true})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := attestation.ParseUnverified(attestIn(enclave, nil))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("claims to be", claims.ModuleID, "in debug mode:", claims.Debug())
	// Output:
	// claims to be i-0123456789abcdef0-enc0123456789abcdef in debug mode: true
}
