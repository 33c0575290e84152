package main

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
)

func TestForms(t *testing.T) {
	spki := func(key crypto.PublicKey, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := ec.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	ecSPKI := spki(&ec.PublicKey, nil)
	rsaSPKI, err2 := rsaKey()
	if err2 != nil {
		t.Fatal(err2)
	}
	for want, value := range map[string][]byte{
		"empty":                   {},
		"text":                    []byte("good day, Zoë\n"),
		"JSON":                    []byte(`{"a": 1}`),
		"binary":                  {0, 1, 2},
		"RSA-2048 SPKI":           rsaSPKI,
		"ECDSA P-384 SPKI":        ecSPKI,
		"ECDSA P-384 SPKI in PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ecSPKI}),
		"P-384 point":             point.Bytes(),
		"Ed25519 SPKI":            spki(ed, err),
		"X25519 SPKI":             spki(x.PublicKey(), nil),
		"X.509 certificate":       attestation.AWSNitroRoot().Raw,
	} {
		if got := formOf(value); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, notText := range []string{"\x1b[2J", "a\x00", "\u202e", "\u009b", "\xff"} {
		if got := formOf([]byte(notText)); got != "binary" {
			t.Errorf("%q is %s", notText, got)
		}
	}
}

// What is shown of text is cut between characters.
func TestQuoteShort(t *testing.T) {
	for s, want := range map[string]string{
		"short":                        `"short"`,
		strings.Repeat("a", 64):        `"` + strings.Repeat("a", 64) + `"`,
		strings.Repeat("a", 65):        `"` + strings.Repeat("a", 64) + `"...`,
		strings.Repeat("a", 63) + "ëb": `"` + strings.Repeat("a", 63) + `"...`,
	} {
		if got := quoteShort(s); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
