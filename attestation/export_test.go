package attestation

import (
	"sync/atomic"
)

// CountSignatures returns how many signatures v has verified, of certificates and of
// documents.
func CountSignatures(v *Verifier) *atomic.Int64 { return &v.signatures }

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
