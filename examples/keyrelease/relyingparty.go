package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func rootsOf(pki *nsmtest.PKI) []*x509.Certificate { return []*x509.Certificate{pki.Root()} }

// relyingParty asks the enclave for a document and verifies it, as a customer of the enclave
// does before sending it anything.
func relyingParty(ctx context.Context, r *report, session *nsm.Session, trust attestation.Policy, attack attack) error {
	verifier, err := attestation.NewVerifier(trust)
	if err != nil {
		return err
	}
	nonce := newNonce()
	asked := nonce
	if attack.name == "nonce" {
		asked = newNonce() // the document is from another exchange
	}
	raw, err := session.Attest(ctx, nsm.AttestationRequest{Nonce: asked})
	if err != nil {
		return err
	}
	r.step("enclave", fmt.Sprintf("had its NSM sign an attestation document, %d bytes", len(raw)))

	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
	var rejected *attestation.Error
	if errors.As(err, &rejected) {
		r.step("relying party", "checked the document")
		r.refused("the verifier", string(rejected.Reason), err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	chain := doc.Chain()
	root := chain[len(chain)-1]
	r.step("relying party", "checked the document and trusts the enclave",
		fact{"module", doc.ModuleID},
		fact{"signed by", chain[0].Subject.CommonName},
		fact{"under root", fmt.Sprintf("%s, SHA-256 %x…", root.Subject.CommonName, fingerprint(root)[:8])},
		fact{"PCRs", fmt.Sprintf("%v are those of %q; not in debug mode", doc.Checked.PCRs, doc.Checked.Measurement)},
		fact{"fresh", fmt.Sprintf("carries the nonce, made %v ago", doc.Checked.At.Sub(doc.Timestamp).Round(time.Millisecond))},
	)
	return nil
}

func newNonce() []byte {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	return nonce
}

func fingerprint(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.Raw)
	return sum[:]
}
