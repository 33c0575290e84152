package attestation_test

import (
	"bytes"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	for name, legacy := range map[string]bool{"shape since 2025": false, "older shape": true} {
		t.Run(name, func(t *testing.T) {
			e := newEnclave(t, nsmtest.Options{LegacyShape: legacy})
			raw := e.attestWith(t, nsm.AttestationRequest{Nonce: nonce, UserData: []byte("user data"), PublicKey: []byte{}})
			doc := accepts(t, e.verifier(t), raw, attestation.Expect{Nonce: nonce, UserData: []byte("user data")})
			if doc.ModuleID != e.ModuleID() || doc.Platform != attestation.PlatformEnclave || !doc.Timestamp.Equal(noon) || doc.Debug() {
				t.Errorf("claims %+v", doc.Claims)
			}
			for i := range 16 {
				if got, ok := doc.PCRs[i]; !ok || got != attestation.PCR(e.PCR(i)) {
					t.Errorf("PCR%d is %v, want %x", i, got, e.PCR(i))
				}
			}
			if !bytes.Equal(doc.Nonce, nonce) || string(doc.UserData) != "user data" || len(doc.PublicKey) != 0 {
				t.Errorf("nonce %q, user data %q, public key %q", doc.Nonce, doc.UserData, doc.PublicKey)
			}
			if chain := doc.Chain(); len(chain) != 5 || !chain[4].Equal(e.Root()) {
				t.Errorf("a chain of %d", len(doc.Chain()))
			}
			want := attestation.Checked{At: noon, Measurement: "release", PCRs: []int{0, 1, 2}, Nonce: true, UserData: true}
			if !reflect.DeepEqual(doc.Checked, want) {
				t.Errorf("checked %+v, want %+v", doc.Checked, want)
			}
		})
	}
}

func TestVerifyTagged(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	raw := e.attest(t)
	accepts(t, e.verifier(t), join([]byte{0xd2}, raw), expectNonce)
	rejects(t, e.verifier(t), join([]byte{0xd2, 0xd2}, raw), expectNonce, attestation.ReasonNotSign1)
	rejects(t, e.verifier(t), join([]byte{0xd8, 98}, raw), expectNonce, attestation.ReasonNotSign1)
	rejects(t, e.verifier(t), join([]byte{0xd9, 0xd9, 0xf7}, raw), expectNonce, attestation.ReasonNotSign1)
}

// The AWS root does not vouch for the software NSM, and no zero value does.
func TestDefaultTrust(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	raw := e.attest(t)
	p := e.policy
	p.Roots = nil
	rejects(t, newVerifier(t, p), raw, expectNonce, attestation.ReasonUntrustedRoot)
	rejects(t, new(attestation.Verifier), raw, expectNonce, attestation.ReasonInvalidPolicy)
	rejects(t, nil, raw, expectNonce, attestation.ReasonInvalidPolicy)
}

func TestTime(t *testing.T) {
	t.Parallel()
	clock := noon
	e := newEnclave(t, nsmtest.Options{})
	raw := e.attest(t)
	e.policy.Clock = func() time.Time { return clock }
	e.policy.MaxAge = 4 * time.Hour
	long := e.verifier(t)
	e.policy.MaxAge = 0
	short := e.verifier(t)

	leaf := accepts(t, long, raw, expectNonce).Chain()[0]
	for _, c := range []struct {
		name  string
		v     *attestation.Verifier
		clock time.Time
		at    time.Time
		want  attestation.Reason
	}{
		{"at once", short, noon, time.Time{}, ""},
		{"at the end of MaxAge", short, noon.Add(attestation.DefaultMaxAge), time.Time{}, ""},
		{"past MaxAge", short, noon.Add(attestation.DefaultMaxAge + time.Millisecond), time.Time{}, attestation.ReasonTooOld},
		{"old but allowed", long, noon.Add(2 * time.Hour), time.Time{}, ""},
		{"in the leaf's last second", long, leaf.NotAfter, time.Time{}, ""},
		{"a second after the leaf's end", long, leaf.NotAfter.Add(time.Second), time.Time{}, attestation.ReasonCertificateExpired},
		{"a slow clock", short, noon.Add(-attestation.DefaultMaxSkew), time.Time{}, ""},
		{"a clock too slow", short, noon.Add(-attestation.DefaultMaxSkew - time.Millisecond), time.Time{}, attestation.ReasonFromFuture},
		{"before the leaf", short, leaf.NotBefore.Add(-attestation.DefaultMaxSkew - time.Second), time.Time{}, attestation.ReasonCertificateNotYetValid},
		{"years later", short, noon.AddDate(5, 0, 0), time.Time{}, attestation.ReasonCertificateExpired},
		{"years later, as of then", short, noon.AddDate(5, 0, 0), noon.Add(time.Minute), ""},
		{"as of a time before", short, noon, noon.Add(-time.Millisecond), attestation.ReasonFromFuture},
		{"as of a time long after", short, noon, noon.Add(time.Hour), attestation.ReasonTooOld},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock = c.clock
			expect := attestation.Expect{Nonce: nonce, At: c.at}
			if c.want != "" {
				rejects(t, c.v, raw, expect, c.want)
				return
			}
			doc := accepts(t, c.v, raw, expect)
			if doc.Checked.Historical == c.at.IsZero() {
				t.Errorf("Historical is %v", doc.Checked.Historical)
			}
		})
	}
}

// A caller that goes on using its buffer must not change the document.
func TestVerifyKeepsNoReference(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	raw := e.attest(t)
	doc := accepts(t, e.verifier(t), raw, expectNonce)
	clear(raw)
	if !bytes.Equal(doc.Nonce, nonce) {
		t.Errorf("the nonce became %q", doc.Nonce)
	}
}

func TestVerifierKeepsNoReferenceToPolicy(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	e.policy.Measurements[0].PCRs[0] = attestation.PCR{1}
	e.policy.Roots[0] = attestation.AWSNitroRoot()
	accepts(t, v, e.attest(t), expectNonce)
}

// What a caller does to a document's certificates changes no later verdict.
func TestChainIsTheCallers(t *testing.T) {
	t.Parallel()
	clock := noon
	e := newEnclave(t, nsmtest.Options{})
	e.policy.Clock = func() time.Time { return clock }
	e.policy.MaxAge = 48 * time.Hour
	v, raw := e.verifier(t), e.attest(t)
	for _, c := range accepts(t, v, raw, expectNonce).Chain() {
		c.NotAfter = noon.AddDate(100, 0, 0)
		clear(c.Raw)
	}
	e.policy.Roots[0].NotAfter = noon.AddDate(-1, 0, 0)
	accepts(t, v, raw, expectNonce)
	clock = noon.Add(5 * time.Hour)
	rejects(t, v, raw, expectNonce, attestation.ReasonCertificateExpired)
}

func TestVerifyConcurrently(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				if _, err := v.Verify(raw, expectNonce); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestParseUnverified(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{Debug: true})
	u, err := attestation.ParseUnverified(e.attest(t))
	if err != nil {
		t.Fatal(err)
	}
	if !u.Debug() || !bytes.Equal(u.Nonce, nonce) || len(u.CABundle) != 4 || len(u.Certificate) == 0 {
		t.Errorf("%+v", u)
	}
	u, err = attestation.ParseUnverified([]byte("garbage"))
	if u != nil {
		t.Error("a result came with the error")
	}
	hasReason(t, err, attestation.ReasonNotSign1)
}

func TestTextInputIsNamed(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	err := rejects(t, e.verifier(t), []byte("hEShATgioFkRw6lpbW9kdWxlX2lk"), expectNonce, attestation.ReasonNotSign1)
	if !strings.Contains(err.Error(), "base64") {
		t.Errorf("no hint at base64 in %q", err)
	}
}
