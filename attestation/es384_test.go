package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/asn1"
	"math/big"
	"testing"
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

func TestES384Size(t *testing.T) {
	key := AWSNitroRoot().PublicKey.(*ecdsa.PublicKey)
	for _, n := range []int{0, 95, 97} {
		if err := (es384{key}).Verify(nil, make([]byte, n)); err == nil {
			t.Errorf("a signature of %d bytes was accepted", n)
		}
	}
}
