package attestation_test

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// BenchmarkVerify is of a document whose leaf is in the cache, of one whose
// authorities only are, and without a cache: 1, 2 and 5 times BenchmarkSignature
// and what surrounds it.
func BenchmarkVerify(b *testing.B) {
	for _, c := range []struct {
		name            string
		cached, newLeaf bool
	}{{"leaf cached", true, false}, {"CAs cached", true, true}, {"no cache", false, false}} {
		b.Run(c.name, func(b *testing.B) {
			e := newEnclave(b, nsmtest.Options{})
			e.policy.DisableCache = !c.cached
			v, raw := e.verifier(b), e.attest(b)
			b.ReportAllocs()
			for b.Loop() {
				if c.newLeaf {
					b.StopTimer()
					attestation.ForgetLeaf(v, raw)
					b.StartTimer()
				}
				if _, err := v.Verify(raw, expectNonce); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyParallel shows that verifications with a warm cache do not wait
// for each other: its time per operation falls with the number of cores.
func BenchmarkVerifyParallel(b *testing.B) {
	e := newEnclave(b, nsmtest.Options{})
	v, raw := e.verifier(b), e.attest(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(raw, expectNonce); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkSignature is one P-384 verification, the unit of the others' cost.
func BenchmarkSignature(b *testing.B) {
	root := attestation.AWSNitroRoot()
	key := root.PublicKey.(*ecdsa.PublicKey)
	digest := sha512.Sum384(root.RawTBSCertificate)
	for b.Loop() {
		if !ecdsa.VerifyASN1(key, digest[:], root.Signature) {
			b.Fatal("the root's signature is wrong")
		}
	}
}
