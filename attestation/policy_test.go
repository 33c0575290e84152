package attestation_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/pcr"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func TestAWSNitroRoot(t *testing.T) {
	t.Parallel()
	root := attestation.AWSNitroRoot()
	sum := sha256.Sum256(root.Raw)
	if got := hex.EncodeToString(sum[:]); got != attestation.AWSNitroRootSHA256 {
		t.Errorf("the embedded root's SHA-256 is %s, AWS publishes %s", got, attestation.AWSNitroRootSHA256)
	}
	if got := root.Subject.String(); got != "CN=aws.nitro-enclaves,OU=AWS,O=Amazon,C=US" {
		t.Errorf("the embedded root's subject is %s", got)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
}

func TestInvalidPolicies(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	chain, err := e.Chain()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := x509.ParseCertificate(chain.CABundle[3])
	if err != nil {
		t.Fatal(err)
	}
	one := attestation.PCR{1}
	good := measurement("good", image)
	for _, c := range []struct {
		name   string
		policy attestation.Policy
		field  string
	}{
		{"zero", attestation.Policy{}, "Measurements"},
		{"no PCRs", attestation.Policy{Measurements: []attestation.Measurement{{}}}, "Measurements[0]"},
		{"no PCRs, partial", attestation.Policy{Measurements: []attestation.Measurement{{UnsafePartial: true}}}, "Measurements[0]"},
		{"second without PCRs", attestation.Policy{Measurements: []attestation.Measurement{good, {Name: "bad"}}}, `Measurements[1] ("bad")`},
		{"PCR0 alone", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{0: one}}}}, "Measurements[0]"},
		{"zero PCR1", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{0: one, 1: {}, 2: one}}}}, "Measurements[0]"},
		{"PCR32", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{0: one, 1: one, 2: one, 32: one}}}}, "Measurements[0]"},
		{"PCR-1", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{-1: one}, UnsafePartial: true}}}, "Measurements[0]"},
		{"zero PCR8 alone", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{8: {}}, UnsafePartial: true}}}, "Measurements[0]"},
		{"zero PCR8 beside PCR3", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{3: one, 8: {}}, UnsafePartial: true}}}, "Measurements[0]"},
		{"zero PCR8 beside PCR1", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{1: one, 8: {}}, UnsafePartial: true}}}, "Measurements[0]"},
		{"a day's skew", attestation.Policy{Measurements: []attestation.Measurement{good}, MaxSkew: 24 * time.Hour}, "MaxSkew"},
		{"zero PCR7 of a TPM", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{4: one, 7: {}, 12: {}}}}, Platform: attestation.PlatformNitroTPM}, "Measurements[0]"},
		{"zero PCR12 of a TPM alone", attestation.Policy{Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{12: {}}, UnsafePartial: true}}, Platform: attestation.PlatformNitroTPM}, "Measurements[0]"},
		{"any and some", attestation.Policy{Measurements: []attestation.Measurement{good}, UnsafeAnyMeasurement: true}, "UnsafeAnyMeasurement"},
		{"enclave PCRs for a TPM", attestation.Policy{Measurements: []attestation.Measurement{good}, Platform: attestation.PlatformNitroTPM}, "Measurements[0]"},
		{"no such platform", attestation.Policy{Measurements: []attestation.Measurement{good}, Platform: 7}, "Platform"},
		{"negative age", attestation.Policy{Measurements: []attestation.Measurement{good}, MaxAge: -1}, "MaxAge"},
		{"negative skew", attestation.Policy{Measurements: []attestation.Measurement{good}, MaxSkew: -1}, "MaxSkew"},
		{"no roots", attestation.Policy{Measurements: []attestation.Measurement{good}, Roots: []*x509.Certificate{}}, "Roots"},
		{"nil root", attestation.Policy{Measurements: []attestation.Measurement{good}, Roots: []*x509.Certificate{nil}}, "Roots[0]"},
		{"empty root", attestation.Policy{Measurements: []attestation.Measurement{good}, Roots: []*x509.Certificate{{}}}, "Roots[0]"},
		{"root is not self-signed", attestation.Policy{Measurements: []attestation.Measurement{good}, Roots: []*x509.Certificate{instance}}, "Roots[0]"},
		{"leaf as root", attestation.Policy{Measurements: []attestation.Measurement{good}, Roots: []*x509.Certificate{e.Root(), leaf}}, "Roots[1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := attestation.NewVerifier(c.policy)
			if v != nil {
				t.Error("a verifier came with the error")
			}
			if e := hasReason(t, err, attestation.ReasonInvalidPolicy); !strings.HasPrefix(e.Field, c.field) {
				t.Errorf("field %q, want %q: %v", e.Field, c.field, err)
			}
		})
	}
}

func TestInvalidExpectations(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)
	long := make([]byte, attestation.MaxFieldSize+1)
	for name, expect := range map[string]attestation.Expect{
		"zero":            {},
		"empty nonce":     {Nonce: []byte{}},
		"nonce and any":   {Nonce: nonce, UnsafeAnyNonce: true},
		"long nonce":      {Nonce: long},
		"long user data":  {Nonce: nonce, UserData: long},
		"long public key": {Nonce: nonce, PublicKey: long},
	} {
		t.Run(name, func(t *testing.T) {
			rejects(t, v, raw, expect, attestation.ReasonInvalidExpectation)
		})
	}
}

func TestMeasurements(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{InstanceID: "i-0123456789abcdef0"})
	raw := e.attest(t)
	good, old := measurement("release", image), measurement("old", []byte("an old image"))
	with := func(m attestation.Measurement, index int, value attestation.PCR) attestation.Measurement {
		pcrs := map[int]attestation.PCR{index: value}
		for i, v := range m.PCRs {
			if i != index {
				pcrs[i] = v
			}
		}
		return attestation.Measurement{Name: m.Name, PCRs: pcrs}
	}
	for _, c := range []struct {
		name     string
		accepted []attestation.Measurement
		want     string // the name that matches, or "" for none
		says     string
	}{
		{"the one", []attestation.Measurement{good}, "release", ""},
		{"the second", []attestation.Measurement{old, good}, "release", ""},
		{"another", []attestation.Measurement{old}, "", `"old": PCR0 is`},
		{"PCR2 differs", []attestation.Measurement{with(good, 2, attestation.PCR{1})}, "", "PCR2 is"},
		{"PCR4 too", []attestation.Measurement{with(good, 4, e.PCR(4))}, "release", ""},
		{"another PCR4", []attestation.Measurement{with(good, 4, attestation.PCR{1})}, "", "PCR4 is"},
		{"unsigned image demanded", []attestation.Measurement{with(good, 8, attestation.PCR{})}, "release", ""},
		{"absent PCR is not zero", []attestation.Measurement{with(good, 31, attestation.PCR{})}, "", "PCR31 is not in the document"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := e.policy
			p.Measurements = c.accepted
			if c.want != "" {
				if got := accepts(t, newVerifier(t, p), raw, expectNonce).Checked.Measurement; got != c.want {
					t.Errorf("matched %q, want %q", got, c.want)
				}
				return
			}
			err := rejects(t, newVerifier(t, p), raw, expectNonce, attestation.ReasonMeasurement)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

func TestNullPCR(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`{"PCRs": {"8": null}}`, `{"PCRs": {"8": 7}}`, `{"PCRs": {"8": ""}}`} {
		var m struct{ PCRs map[int]attestation.PCR }
		if err := json.Unmarshal([]byte(text), &m); !errors.Is(err, pcr.ErrSyntax) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestZeroPCR12OfTPM(t *testing.T) {
	t.Parallel()
	newVerifier(t, attestation.Policy{
		Platform:     attestation.PlatformNitroTPM,
		Measurements: []attestation.Measurement{{PCRs: map[int]attestation.PCR{4: {1}, 7: {1}, 12: {}}}},
	})
}

func TestUnsafePartial(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	e.policy.Measurements = []attestation.Measurement{{PCRs: map[int]attestation.PCR{0: e.PCR(0)}, UnsafePartial: true}}
	accepts(t, e.verifier(t), e.attest(t), expectNonce)
}

func TestPCRText(t *testing.T) {
	t.Parallel()
	want := attestation.PCR{0xab, 47: 0xcd}
	text, err := json.Marshal(map[string]attestation.PCR{"PCR0": want})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]attestation.PCR
	if err := json.Unmarshal([]byte(strings.ToUpper(string(text))), &got); err != nil || got["PCR0"] != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "ab", strings.Repeat("g", 96), strings.Repeat("0", 95), "0x" + strings.Repeat("0", 94)} {
		p, err := attestation.ParsePCR(s)
		if err == nil || !p.IsZero() {
			t.Errorf("%q was read as %v", s, p)
		}
	}
}
