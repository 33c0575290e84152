package es384

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/veraison/go-cose"
)

func TestDERSignature(t *testing.T) {
	ff := bytes.Repeat([]byte{0xff}, 48)
	one := append(make([]byte, 47), 1)
	high := append(make([]byte, 47), 0x80)
	zero := make([]byte, 48)
	for _, r := range [][]byte{ff, one, high, zero} {
		for _, s := range [][]byte{ff, one, high, zero} {
			got := derSignature(append(bytes.Clone(r), s...))
			want, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%x %x: %x, want %x", r, s, got, want)
			}
		}
	}
}

func TestVerify(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES384, key)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(rand.Reader, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	v := Verifier{&key.PublicKey}
	if err := v.Verify([]byte("content"), signature); err != nil {
		t.Error(err)
	}
	n := elliptic.P384().Params().N.FillBytes(make([]byte, 48))
	for name, bad := range map[string][]byte{
		"none":   nil,
		"short":  signature[:95],
		"long":   append(bytes.Clone(signature), 0),
		"zeros":  make([]byte, 96),
		"r is n": append(bytes.Clone(n), signature[48:]...),
		"s is n": append(bytes.Clone(signature[:48]), n...),
		"r is 0": append(make([]byte, 48), signature[48:]...),
		"s is 0": append(bytes.Clone(signature[:48]), make([]byte, 48)...),
	} {
		if err := v.Verify([]byte("content"), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := v.Verify([]byte("other"), signature); err == nil {
		t.Error("accepted for another content")
	}
}
