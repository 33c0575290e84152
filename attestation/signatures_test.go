package attestation_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// TestSignatureCount counts the P-384 verifications that documents cost: one for
// each certificate below the root that is not known, and one for the document.
func TestSignatureCount(t *testing.T) {
	t.Parallel()
	clock := noon
	now := func() time.Time { return clock }
	e := newEnclave(t, nsmtest.Options{Clock: now})
	e.policy.Clock = now
	foreign := newEnclave(t, nsmtest.Options{Clock: now})

	v := e.verifier(t)
	n := attestation.CountSignatures(v)
	for _, step := range []struct {
		name string
		raw  func() []byte
		want int64
		err  attestation.Reason
	}{
		{"a foreign root", func() []byte { return foreign.attest(t) }, 0, attestation.ReasonUntrustedRoot},
		{"the first document", func() []byte { return e.attest(t) }, 5, ""},
		{"the next", func() []byte { return e.attest(t) }, 1, ""},
		{"one with a new leaf, hours later", func() []byte {
			clock = clock.Add(4 * time.Hour)
			return e.attest(t)
		}, 2, ""},
		{"the next", func() []byte { return e.attest(t) }, 1, ""},
	} {
		raw := step.raw()
		n.Store(0)
		if step.err != "" {
			rejects(t, v, raw, expectNonce, step.err)
		} else {
			accepts(t, v, raw, expectNonce)
		}
		if got := n.Load(); got != step.want {
			t.Errorf("%s: %d signatures, want %d", step.name, got, step.want)
		}
	}
	if got, want := v.CacheStats(), (attestation.CacheStats{Hits: 11, Misses: 5, Entries: 5}); got != want {
		t.Errorf("cache %+v, want %+v", got, want)
	}

	e.policy.DisableCache = true
	v = e.verifier(t)
	n = attestation.CountSignatures(v)
	for range 2 {
		n.Store(0)
		accepts(t, v, e.attest(t), expectNonce)
		if got := n.Load(); got != 5 {
			t.Errorf("without the cache: %d signatures, want 5", got)
		}
	}
	if got := v.CacheStats(); got != (attestation.CacheStats{}) {
		t.Errorf("without the cache: %+v", got)
	}
}

// What the cache holds is still judged by the clock, the policy and its place.
func TestCacheForgetsNothing(t *testing.T) {
	t.Parallel()
	clock := noon
	revoked := false
	e := newEnclave(t, nsmtest.Options{})
	e.policy.Clock = func() time.Time { return clock }
	e.policy.MaxAge = 48 * time.Hour
	e.policy.Revoked = func(c *x509.Certificate) bool { return revoked && !c.IsCA }
	v := e.verifier(t)
	raw := e.attest(t)
	leaf := accepts(t, v, raw, expectNonce).Chain()[0]

	clock = leaf.NotAfter.Add(time.Second)
	rejects(t, v, raw, expectNonce, attestation.ReasonCertificateExpired)
	clock = leaf.NotBefore.Add(-time.Hour)
	rejects(t, v, raw, expectNonce, attestation.ReasonCertificateNotYetValid)
	clock = noon
	revoked = true
	rejects(t, v, raw, expectNonce, attestation.ReasonCertificateRevoked)
	revoked = false
	altered := append([]byte(nil), raw...)
	altered[len(altered)-1] ^= 1
	rejects(t, v, altered, expectNonce, attestation.ReasonSignature)
	accepts(t, v, raw, expectNonce)
}

// A forger's certificates are not shown to the policy's Revoked.
func TestRevokedIsAskedOfTheIssued(t *testing.T) {
	t.Parallel()
	asked := 0
	e := newEnclave(t, nsmtest.Options{})
	e.policy.Revoked = func(*x509.Certificate) bool { asked++; return false }
	v := e.verifier(t)
	accepts(t, v, e.attest(t), expectNonce)
	if asked != 4 {
		t.Errorf("asked %d times of a good document, want 4", asked)
	}
	asked = 0
	attacker, err := newEnclave(t, nsmtest.Options{}).Chain()
	if err != nil {
		t.Fatal(err)
	}
	forged := newEnclave(t, nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
		d.CABundle = append([][]byte{e.Root().Raw}, attacker.CABundle[1:]...)
		d.Certificate = attacker.Certificate
	}})
	if doc, err := v.Verify(forged.attest(t), expectNonce); doc != nil || err == nil {
		t.Fatal("a forged chain was accepted")
	}
	if asked != 0 {
		t.Errorf("asked %d times of a forged document", asked)
	}
}

// A document that is not accepted leaves nothing in the cache.
func TestCacheTakesNothingRefused(t *testing.T) {
	t.Parallel()
	pki := newPKI(t, nsmtest.PKIOptions{})
	e := newEnclave(t, nsmtest.Options{PKI: pki})
	other := newEnclave(t, nsmtest.Options{PKI: pki, Image: []byte("another image")})
	v := e.verifier(t)
	altered := e.attest(t)
	altered[len(altered)-1] ^= 1
	rejects(t, v, altered, expectNonce, attestation.ReasonSignature)
	rejects(t, v, other.attest(t), expectNonce, attestation.ReasonMeasurement)
	if got := v.CacheStats().Entries; got != 0 {
		t.Errorf("%d entries", got)
	}
}
