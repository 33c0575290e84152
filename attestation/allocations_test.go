package attestation_test

import (
	"crypto/fips140"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// TestAllocations bounds the allocations of a verification in each state of the
// cache. Unlike times, they are the same on every machine, but for some that the
// race detector adds.
func TestAllocations(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("in FIPS 140 mode signatures are verified by other code")
	}
	for _, c := range []struct {
		name            string
		cached, newLeaf bool
		most            float64
	}{{"no cache", false, false, 540}, {"CAs cached", true, true, 200}, {"leaf cached", true, false, 80}} {
		e := newEnclave(t, nsmtest.Options{})
		e.policy.DisableCache = !c.cached
		v, raw := e.verifier(t), e.attest(t)
		accepts(t, v, raw, expectNonce)
		forget := 0.0
		if c.newLeaf {
			forget = testing.AllocsPerRun(20, func() { attestation.ForgetLeaf(v, raw) })
		}
		got := testing.AllocsPerRun(20, func() {
			if c.newLeaf {
				attestation.ForgetLeaf(v, raw)
			}
			accepts(t, v, raw, expectNonce)
		}) - forget
		if got > c.most {
			t.Errorf("%s: %.0f allocations, more than %.0f", c.name, got, c.most)
		}
		t.Logf("%s: %.0f allocations", c.name, got)
	}
}
