package attestation_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// noon is the time of every test, but for those about time.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

var (
	image = []byte("an enclave image")
	nonce = []byte("a nonce of the test's own")
)

// enclave is a software NSM and a verifier that accepts its image.
type enclave struct {
	*nsmtest.NSM
	policy attestation.Policy
}

func newEnclave(t testing.TB, o nsmtest.Options) *enclave {
	t.Helper()
	if o.Image == nil {
		o.Image = image
	}
	if o.Clock == nil {
		o.Clock = atNoon
	}
	n, err := nsmtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &enclave{n, attestation.Policy{
		Measurements: []attestation.Measurement{measurement("release", image)},
		Roots:        []*x509.Certificate{n.Root()},
		Clock:        atNoon,
	}}
}

// newPKI makes certificates at noon; edit may spoil them.
func newPKI(t testing.TB, o nsmtest.PKIOptions) *nsmtest.PKI {
	t.Helper()
	if o.Clock == nil {
		o.Clock = atNoon
	}
	pki, err := nsmtest.NewPKI(o)
	if err != nil {
		t.Fatal(err)
	}
	return pki
}

func measurement(name string, image []byte) attestation.Measurement {
	pcr0, pcr1, pcr2 := nsmtest.Measure(image)
	return attestation.Measurement{Name: name, PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2}}
}

// attest asks for a document with the test's nonce.
func (e *enclave) attest(t testing.TB) []byte {
	t.Helper()
	return e.attestWith(t, nsm.AttestationRequest{Nonce: nonce})
}

func (e *enclave) attestWith(t testing.TB, request nsm.AttestationRequest) []byte {
	t.Helper()
	raw, err := nsm.NewSession(e.NSM).Attest(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (e *enclave) verifier(t testing.TB) *attestation.Verifier {
	t.Helper()
	return newVerifier(t, e.policy)
}

func newVerifier(t testing.TB, p attestation.Policy) *attestation.Verifier {
	t.Helper()
	v, err := attestation.NewVerifier(p)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// expectNonce is what most tests expect.
var expectNonce = attestation.Expect{Nonce: nonce}

func accepts(t testing.TB, v *attestation.Verifier, raw []byte, e attestation.Expect) *attestation.Document {
	t.Helper()
	doc, err := v.Verify(raw, e)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// rejects checks the reason, and that no document comes with it.
func rejects(t testing.TB, v *attestation.Verifier, raw []byte, e attestation.Expect, want attestation.Reason) *attestation.Error {
	t.Helper()
	doc, err := v.Verify(raw, e)
	if doc != nil {
		t.Errorf("a document came with the error %v", err)
	}
	return hasReason(t, err, want)
}

func hasReason(t testing.TB, err error, want attestation.Reason) *attestation.Error {
	t.Helper()
	var e *attestation.Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want one of reason %q", err, want)
	}
	if e.Reason != want {
		t.Fatalf("reason %q, want %q: %v", e.Reason, want, err)
	}
	return e
}

// field is one entry of a payload map, its value encoded.
type field struct {
	name  string
	value []byte
}

type fields []field

// fieldOrder is the order in which NSMs write a document's fields.
var fieldOrder = []string{"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"}

// payloadFields takes a document apart.
func payloadFields(t testing.TB, raw []byte) fields {
	t.Helper()
	var message []cbor.RawMessage
	var payload []byte
	var values map[string]cbor.RawMessage
	if err := errors.Join(cbor.Unmarshal(raw, &message), cbor.Unmarshal(message[2], &payload), cbor.Unmarshal(payload, &values)); err != nil {
		t.Fatal(err)
	}
	var f fields
	for _, name := range fieldOrder {
		f = append(f, field{name, values[name]})
	}
	return f
}

// encode writes the map with an indefinite length, as NSMs do.
func (f fields) encode() []byte {
	var b bytes.Buffer
	b.WriteByte(0xbf)
	for _, x := range f {
		b.Write(cborOf(x.name))
		b.Write(x.value)
	}
	b.WriteByte(0xff)
	return b.Bytes()
}

// cborOf encodes a value in the shortest form.
func cborOf(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// join concatenates parts of an encoding.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
