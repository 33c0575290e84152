package vectors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
)

// TestSecondOpinion has general libraries verify what is to be accepted: that a
// vector is sound must not rest on this module's word alone.
func TestSecondOpinion(t *testing.T) {
	files, err := Load("../../" + Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, v := range f.Vectors {
			if v.Result == Accept {
				t.Run(f.Subject+"/"+v.Name, func(t *testing.T) { secondOpinion(t, &f, &v) })
			}
		}
	}
}

func secondOpinion(t *testing.T, f *File, v *Vector) {
	var message []cbor.RawMessage
	var protected, raw, signature []byte
	var payload struct {
		Certificate []byte   `cbor:"certificate"`
		CABundle    [][]byte `cbor:"cabundle"`
	}
	err := cbor.Unmarshal(bytes.TrimPrefix(v.Document, []byte{0xd2}), &message)
	if err != nil || len(message) != 4 {
		t.Fatal(err, len(message))
	}
	if err := errors.Join(cbor.Unmarshal(message[0], &protected), cbor.Unmarshal(message[2], &raw),
		cbor.Unmarshal(message[3], &signature), cbor.Unmarshal(raw, &payload)); err != nil {
		t.Fatal(err)
	}
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, raw})
	if err != nil {
		t.Fatal(err)
	}

	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	trusted := f.Roots
	if v.Policy.Roots != nil {
		trusted = v.Policy.Roots
	}
	for _, der := range trusted {
		roots.AddCert(parse(t, der))
	}
	for _, der := range payload.CABundle[1:] {
		intermediates.AddCert(parse(t, der))
	}
	leaf := parse(t, payload.Certificate)
	at := v.Time
	if !v.Expect.At.IsZero() {
		at = v.Expect.At
	}
	skew := time.Duration(v.Policy.MaxSkewMillis) * time.Millisecond
	if skew == 0 {
		skew = attestation.DefaultMaxSkew
	}
	verify := func(at time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
	if err := verify(at); err != nil {
		if err := verify(at.Add(skew)); err != nil {
			t.Error(err)
		}
	}

	digest := sha512.Sum384(signed)
	r, s := new(big.Int).SetBytes(signature[:halfSize]), new(big.Int).SetBytes(signature[halfSize:])
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !ecdsa.Verify(key, digest[:], r, s) {
		t.Error("the signature doesn't verify")
	}
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
