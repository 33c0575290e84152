package es384

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"math/big"
	"testing"

	"filippo.io/nistec"
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
			if bytes.Equal(r, zero) || bytes.Equal(s, zero) {
				continue // no positive integer
			}
			gotR, gotS, ok := parseDER(want)
			if !ok || !bytes.Equal(padded(gotR), r) || !bytes.Equal(padded(gotS), s) {
				t.Errorf("%x parses as %x %x, %v", want, gotR, gotS, ok)
			}
		}
	}
}

func padded(number []byte) []byte { return new(big.Int).SetBytes(number).FillBytes(make([]byte, 48)) }

// signed returns a key and its signature over content in both forms.
func signed(t testing.TB, content []byte) (point, signature, der []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(content)
	if der, err = ecdsa.SignASN1(rand.Reader, private, digest[:]); err != nil {
		t.Fatal(err)
	}
	r, s, ok := parseDER(der)
	if !ok {
		t.Fatalf("%x does not parse", der)
	}
	return encoded(t, &private.PublicKey), append(padded(r), padded(s)...), der
}

func encoded(t testing.TB, key *ecdsa.PublicKey) []byte {
	t.Helper()
	point, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return point
}

func TestVerify(t *testing.T) {
	content := []byte("content")
	point, signature, der := signed(t, content)
	v := Verifier{point}
	if v.Algorithm() != cose.AlgorithmES384 {
		t.Errorf("algorithm %v", v.Algorithm())
	}
	if err := v.Verify(content, signature); err != nil {
		t.Error(err)
	}
	if !VerifyDER(point, content, der) {
		t.Error("the certificate's form is refused")
	}
	n := padded(order.Bytes())
	for name, bad := range map[string][]byte{
		"none":   nil,
		"short":  signature[:95],
		"long":   append(bytes.Clone(signature), 0),
		"zeros":  make([]byte, 96),
		"r is n": append(bytes.Clone(n), signature[48:]...),
		"s is n": append(bytes.Clone(signature[:48]), n...),
		"r is 0": append(make([]byte, 48), signature[48:]...),
		"s is 0": append(bytes.Clone(signature[:48]), make([]byte, 48)...),
		"r + 1":  append(padded(new(big.Int).Add(new(big.Int).SetBytes(signature[:48]), big.NewInt(1)).Bytes()), signature[48:]...),
	} {
		if err := v.Verify(content, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if len(bad) == 96 && VerifyDER(point, content, derSignature(bad)) {
			t.Errorf("%s: accepted in DER", name)
		}
	}
	if v.Verify([]byte("other"), signature) == nil || VerifyDER(point, []byte("other"), der) {
		t.Error("accepted for another content")
	}
	for name, bad := range map[string][]byte{
		"bytes after it":      append(bytes.Clone(der), 0),
		"an element after s":  append([]byte{0x30, der[1] + 2}, append(bytes.Clone(der[2:]), 5, 0)...),
		"a shorter sequence":  append([]byte{0x30, der[1] - 1}, der[2:]...),
		"a longer sequence":   append([]byte{0x30, der[1] + 1}, der[2:]...),
		"a length in 2 bytes": append([]byte{0x30, 0x81, der[1]}, der[2:]...),
		"a set":               append([]byte{0x31}, der[1:]...),
	} {
		if VerifyDER(point, content, bad) {
			t.Errorf("%s: accepted", name)
		}
	}
	other, _, _ := signed(t, content)
	if (Verifier{other}).Verify(content, signature) == nil || VerifyDER(other, content, der) {
		t.Error("accepted for another key")
	}
}

func TestOtherPoints(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		_, signature, _ := signed(t, nil)
		if (Verifier{encoded(t, &private.PublicKey)}).Verify(nil, signature) == nil {
			t.Errorf("%s: accepted", curve.Params().Name)
		}
	}
	point, signature, der := signed(t, nil)
	compressed := append([]byte{2 + point[96]&1}, point[1:49]...)
	off := bytes.Clone(point)
	off[96] ^= 1
	for name, other := range map[string][]byte{"none": nil, "infinity": {0}, "compressed": compressed, "off the curve": off, "long": append(bytes.Clone(point), 0)} {
		if (Verifier{other}).Verify(nil, signature) == nil || VerifyDER(other, nil, der) {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestSpecialPoints verifies where the two products of the equation are equal,
// opposite, or one of them the point at infinity, which formulas that are not
// complete get wrong. With the key d·G and a signature (r, s) over e, they are
// (e/s)·G and (r·d/s)·G.
func TestSpecialPoints(t *testing.T) {
	mod := func(x *big.Int) *big.Int { return x.Mod(x, order) }
	x, err := nistec.NewP384Point().ScalarBaseMult(padded([]byte{5}))
	if err != nil {
		t.Fatal(err)
	}
	rx, err := x.BytesX()
	if err != nil {
		t.Fatal(err)
	}
	r := new(big.Int).SetBytes(rx) // of 5·G
	five := big.NewInt(5)
	half := new(big.Int).ModInverse(big.NewInt(2), order)
	for name, u1 := range map[string]*big.Int{"equal products": mod(new(big.Int).Mul(five, half)), "one and four": big.NewInt(1)} {
		// For any s: e = u1·s, and d = (5 - u1)·s/r, so that the sum is 5·G.
		s := big.NewInt(7)
		e := mod(new(big.Int).Mul(u1, s))
		d := new(big.Int).Sub(five, u1)
		d = mod(d.Mul(d, s).Mul(d, new(big.Int).ModInverse(r, order)))
		check(t, name, d, e, r, s, true)
	}
	// Opposite products: the sum is the point at infinity, which no r is of.
	s, e := big.NewInt(7), big.NewInt(11)
	d := mod(new(big.Int).Mul(new(big.Int).Neg(e), new(big.Int).ModInverse(r, order)))
	check(t, "opposite", d, e, r, s, false)
	// A digest of zero: the first product is the point at infinity.
	d = mod(new(big.Int).Mul(new(big.Int).Mul(big.NewInt(5), s), new(big.Int).ModInverse(r, order)))
	check(t, "zero digest", d, new(big.Int), r, s, true)
}

// TestPointBeyondOrder verifies where the point's x is not below n, so that r is x-n.
func TestPointBeyondOrder(t *testing.T) {
	for k := int64(1); ; k++ {
		x := new(big.Int).Add(order, big.NewInt(k))
		point, err := nistec.NewP384Point().SetBytes(append([]byte{2}, padded(x.Bytes())...))
		if err != nil {
			continue // no point has this x
		}
		// With a digest of zero and s = 1, r·Q must be the point.
		q, err := point.ScalarMult(point, padded(new(big.Int).ModInverse(big.NewInt(k), order).Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), q.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		var digest [48]byte
		r, one := big.NewInt(k).Bytes(), []byte{1}
		if !verify(q.Bytes(), digest, r, one) || !ecdsa.VerifyASN1(key, digest[:], derSignature(append(padded(r), padded(one)...))) {
			t.Error("a valid signature is refused")
		}
		if verify(q.Bytes(), digest, x.Bytes(), one) {
			t.Error("r is not below n, and is accepted")
		}
		return
	}
}

// check verifies the signature with the private key d's public key, here and in
// crypto/ecdsa.
func check(t *testing.T, name string, d, e, r, s *big.Int, valid bool) {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), padded(d.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	digest := [48]byte(padded(e.Bytes()))
	if got := verify(encoded(t, &private.PublicKey), digest, r.Bytes(), s.Bytes()); got != valid {
		t.Errorf("%s: %v", name, got)
	}
	der := derSignature(append(padded(r.Bytes()), padded(s.Bytes())...))
	if got := ecdsa.VerifyASN1(&private.PublicKey, digest[:], der); got != valid {
		t.Errorf("%s: crypto/ecdsa says %v", name, got)
	}
}

// FuzzVerifyDER wants crypto/ecdsa's verdict of every signature, in any form.
func FuzzVerifyDER(f *testing.F) {
	content := []byte("content")
	point, _, der := signed(f, content)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(make([]byte, 110)) // bytes after the signature
	f.Add([]byte{0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01})
	f.Add([]byte{0x30, 0x06, 0x02, 0x01, 0x80, 0x02, 0x01, 0x01})
	f.Add([]byte{0x30, 0x07, 0x02, 0x02, 0x00, 0x01, 0x02, 0x01, 0x01})
	f.Fuzz(func(t *testing.T, altered []byte) {
		// The key is another in each process: alter its signature by what is given.
		signature := bytes.Clone(der)
		for i, b := range altered {
			if i < len(signature) {
				signature[i] ^= b
			} else {
				signature = append(signature, b)
			}
		}
		digest := sha512.Sum384(content)
		for _, s := range [][]byte{signature, altered} {
			if got, want := VerifyDER(point, content, s), ecdsa.VerifyASN1(key, digest[:], s); got != want {
				t.Errorf("%x: %v, and crypto/ecdsa says %v", s, got, want)
			}
		}
	})
}
