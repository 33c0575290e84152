package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/realdoc"
	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func TestInstancePCR(t *testing.T) {
	t.Parallel()
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation")) {
		instance, _, ok := strings.Cut(e.ModuleID, "-enc")
		if ok && attestation.InstancePCR(instance).String() != e.PCRs[attestation.PCRInstance] {
			t.Errorf("%s: PCR4 is not that of %s", e.File, instance)
		}
	}
}

func TestMeasuredPCRs(t *testing.T) {
	t.Parallel()
	const role, instance = "arn:aws:iam::111122223333:role/parent", "i-0123456789abcdef0"
	e := newEnclave(t, nsmtest.Options{RoleARN: role, InstanceID: instance})
	if got := attestation.RolePCR(role); got != e.PCR(attestation.PCRRole) {
		t.Errorf("PCR3 is %v", got)
	}
	if got := attestation.InstancePCR(instance); got != e.PCR(attestation.PCRInstance) {
		t.Errorf("PCR4 is %v", got)
	}
	der := sha512.Sum384(e.Root().Raw)
	want := sha512.Sum384(append(make([]byte, 48), der[:]...))
	if got := attestation.SignerPCR(e.Root()); got != want {
		t.Errorf("PCR8 is %v, want %x", got, want)
	}
}

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "BBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func TestParseMeasurement(t *testing.T) {
	t.Parallel()
	a, _ := attestation.ParsePCR(hexA)
	b, _ := attestation.ParsePCR(hexB)
	for _, c := range []struct {
		name, text string
		want       attestation.Measurement // zero if it is to be refused
	}{
		{"build-enclave", `{
  "Measurements": {
    "HashAlgorithm": "Sha384 { ... }",
    "PCR0": "` + hexA + `",
    "PCR1": "` + hexB + `",
    "PCR2": "` + hexA + `"
  }
}`, attestation.Measurement{PCRs: map[int]attestation.PCR{0: a, 1: b, 2: a}}},
		{"describe-eif", `{"EifVersion": 4, "Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "` + hexA + `", "PCR8": "` + hexB + `"},
			"IsSigned": true, "ImageName": "app", "ImageVersion": "1.2", "Metadata": {"BuildTime": "now"}}`,
			attestation.Measurement{Name: "app 1.2", PCRs: map[int]attestation.PCR{0: a, 8: b}}},
		{"no algorithm", `{"Name": "x", "Measurements": {"PCR31": "` + hexA + `"}}`, attestation.Measurement{Name: "x", PCRs: map[int]attestation.PCR{31: a}}},

		{"Measurements twice", `{"Measurements": {"PCR0": "` + hexA + `"}, "Measurements": {"PCR0": "` + hexB + `"}}`, attestation.Measurement{}},
		{"Measurements and measurements", `{"Measurements": {"PCR0": "` + hexA + `"}, "measurements": {"PCR0": "` + hexB + `"}}`, attestation.Measurement{}},
		{"MEASUREMENTS alone", `{"MEASUREMENTS": {"PCR0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"with a long s", `{"mea\u017furements": {"PCR0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"name twice", `{"Name": "a", "Name": "b", "Measurements": {"PCR0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"a number as name", `{"Name": 1, "Measurements": {"PCR0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"empty", ``, attestation.Measurement{}},
		{"no object", `[]`, attestation.Measurement{}},
		{"no measurements", `{}`, attestation.Measurement{}},
		{"null measurements", `{"Measurements": null}`, attestation.Measurement{}},
		{"empty measurements", `{"Measurements": {}}`, attestation.Measurement{}},
		{"algorithm alone", `{"Measurements": {"HashAlgorithm": "Sha384 { ... }"}}`, attestation.Measurement{}},
		{"another algorithm", `{"Measurements": {"HashAlgorithm": "Sha256 { ... }", "PCR0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"PCR0 twice", `{"Measurements": {"PCR0": "` + hexA + `", "PCR0": "` + hexB + `"}}`, attestation.Measurement{}},
		{"PCR32", `{"Measurements": {"PCR32": "` + hexA + `"}}`, attestation.Measurement{}},
		{"PCR00", `{"Measurements": {"PCR00": "` + hexA + `"}}`, attestation.Measurement{}},
		{"PCR+1", `{"Measurements": {"PCR+1": "` + hexA + `"}}`, attestation.Measurement{}},
		{"pcr0", `{"Measurements": {"pcr0": "` + hexA + `"}}`, attestation.Measurement{}},
		{"short", `{"Measurements": {"PCR0": "` + hexA[1:] + `"}}`, attestation.Measurement{}},
		{"number", `{"Measurements": {"PCR0": 0}}`, attestation.Measurement{}},
		{"something after", `{"Measurements": {"PCR0": "` + hexA + `"}} {}`, attestation.Measurement{}},
		{"too long", `{"Measurements": {"PCR0": "` + hexA + `"}}` + strings.Repeat(" ", attestation.MaxMeasurementSize), attestation.Measurement{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := attestation.ParseMeasurement([]byte(c.text))
			if !reflect.DeepEqual(m, c.want) {
				t.Errorf("%+v, want %+v (%v)", m, c.want, err)
			}
			if c.want.PCRs == nil {
				hasReason(t, err, attestation.ReasonInvalidPolicy)
				return
			}
			text, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := attestation.ParseMeasurement(text); err != nil || !reflect.DeepEqual(again, m) {
				t.Errorf("written as %s and read as %+v, %v", text, again, err)
			}
		})
	}
}

func TestParseMeasurementOfNothing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n"} {
		_, err := attestation.ParseMeasurement([]byte(text))
		hasReason(t, err, attestation.ReasonInvalidPolicy)
		if err == nil || !strings.Contains(err.Error(), "is empty; did the build") {
			t.Errorf("of %q: %v", text, err)
		}
	}
}

func FuzzParseMeasurement(f *testing.F) {
	f.Add([]byte(`{"Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "` + hexA + `"}}`))
	f.Add([]byte(`{"ImageName": "é", "ImageVersion": "1", "Measurements": {"PCR31": "` + hexB + `"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := attestation.ParseMeasurement(text)
		if err != nil {
			if m.PCRs != nil || m.Name != "" {
				t.Fatal("a measurement came with the error")
			}
			return
		}
		again, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := attestation.ParseMeasurement(again); err != nil || !reflect.DeepEqual(m, n) {
			t.Fatalf("%+v was written as %s and read as %+v, %v", m, again, n, err)
		}
	})
}

func TestBinding(t *testing.T) {
	t.Parallel()
	// From another implementation:
	//	python3 -c 'import hashlib,struct; n=lambda x: struct.pack(">Q",x); f=lambda b: n(len(b))+b
	//	print(hashlib.sha384(n(2)+f(b"tls")+f(b"a")+f(b"bc")).hexdigest())'
	const want = "c4568f1cd9cb20cba2b332f753e205dcc94a685067c045421c1e9e7cae923196b12ffe55da1dfdfecf2cf1672d3fa9db"
	if got := hex.EncodeToString(attestation.Binding("tls", []byte("a"), []byte("bc"))); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	seen := map[string]int{}
	for i, b := range [][]byte{
		attestation.Binding("tls", []byte("a"), []byte("bc")),
		attestation.Binding("tls", []byte("ab"), []byte("c")),
		attestation.Binding("tls", []byte("abc")),
		attestation.Binding("tls", []byte("a"), []byte("bc"), nil),
		attestation.Binding("tl", []byte("sa"), []byte("bc")),
		attestation.Binding("tls"),
		attestation.Binding(""),
		attestation.Binding("", nil),
	} {
		if len(b) != attestation.BindingSize {
			t.Errorf("%d bytes", len(b))
		}
		if j, ok := seen[string(b)]; ok {
			t.Errorf("%d and %d are the same", i, j)
		}
		seen[string(b)] = i
	}
}

func TestParsePublicKey(t *testing.T) {
	t.Parallel()
	rsaKey := testkeys.RSA(2048, 0)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec := attestation.AWSNitroRoot().PublicKey.(*ecdsa.PublicKey)
	e := newEnclave(t, nsmtest.Options{})
	v := e.verifier(t)
	for _, c := range []struct {
		name string
		key  []byte
	}{
		{name: "RSA", key: spki(t, &rsaKey.PublicKey)},
		{name: "PKCS #1", key: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)},
		{name: "ECDSA", key: spki(t, ec)},
		{name: "Ed25519", key: spki(t, ed)},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := accepts(t, v, e.attestWith(t, nsm.AttestationRequest{Nonce: nonce, PublicKey: c.key}), expectNonce)
			key, err := doc.ParsePublicKey()
			if err != nil {
				t.Fatal(err)
			}
			if got := spki(t, key); !bytes.Equal(got, c.key) && c.name != "PKCS #1" {
				t.Errorf("another key: %x", got)
			}
		})
	}
	for name, bad := range map[string][]byte{"absent": nil, "raw": make([]byte, 32), "trailing": append(spki(t, ec), 0)} {
		t.Run(name, func(t *testing.T) {
			doc := accepts(t, v, e.attestWith(t, nsm.AttestationRequest{Nonce: nonce, PublicKey: bad}), expectNonce)
			key, err := doc.ParsePublicKey()
			if key != nil {
				t.Error("a key came with the error")
			}
			hasReason(t, err, attestation.ReasonPublicKey)
		})
	}
}

func spki(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
