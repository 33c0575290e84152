package attestation

import (
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
	v.checkEnvelope = func(e envelope, signer *x509.Certificate) error {
		n.Add(1)
		return checkEnvelope(e, signer)
	}
	return &n
}

// ForgetLeaf drops the certificate that signed raw from v's cache, and leaves
// those above it.
func ForgetLeaf(v *Verifier, raw []byte) {
	_, p, err := parse(raw)
	if err != nil {
		panic(err)
	}
	key := v.roots[0].key
	for _, der := range p.path()[1:] {
		key = key.below(der)
	}
	if _, known := v.cache.young.Load().certs.LoadAndDelete(key); known {
		v.cache.young.Load().size.Add(-1)
	}
}
