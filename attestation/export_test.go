package attestation

import (
	"crypto/ecdsa"
	"crypto/x509"
	"sync/atomic"
)

// CountSignatures makes v count the signatures it verifies, of certificates and
// of documents.
func CountSignatures(v *Verifier) *atomic.Int64 {
	var n atomic.Int64
	check := v.checkSignature
	v.checkSignature = func(parent, child *x509.Certificate) error {
		n.Add(1)
		return check(parent, child)
	}
	checkEnvelope := v.checkEnvelope
	v.checkEnvelope = func(e envelope, key *ecdsa.PublicKey) error {
		n.Add(1)
		return checkEnvelope(e, key)
	}
	return &n
}
