package attestation

import (
	"crypto/x509"
	"sync/atomic"
)

// CountSignatures makes v count the certificate signatures it verifies.
func CountSignatures(v *Verifier) *atomic.Int64 {
	var n atomic.Int64
	check := v.checkSignature
	v.checkSignature = func(parent, child *x509.Certificate) error {
		n.Add(1)
		return check(parent, child)
	}
	return &n
}
