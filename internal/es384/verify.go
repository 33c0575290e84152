package es384

import (
	"crypto/elliptic"
	"crypto/sha512"
	"math/big"

	"filippo.io/nistec"
)

// order is n, the order of P-384's group: a copy, since the original is there for
// all to change.
var order = new(big.Int).Set(elliptic.P384().Params().N)

// verify is the ECDSA verification of FIPS 186-5, section 6.4.2. r and s are
// big-endian, of any length.
//
// It does what crypto/ecdsa does, on the same arithmetic of points: nistec is
// crypto/ecdsa's own, published. But crypto/ecdsa inverts s in constant time,
// as for a signer's secret, which takes it a twelfth of the whole. Nothing in a
// verification is secret. Where validated cryptography is demanded, crypto/ecdsa is
// used.
func verify(point []byte, digest [sha512.Size384]byte, r, s []byte) bool {
	var rn, sn big.Int
	if !isScalar(rn.SetBytes(r)) || !isScalar(sn.SetBytes(s)) {
		return false
	}
	if len(point) != pointSize {
		return false // SetBytes takes a compressed point too, and that at infinity
	}
	q, err := nistec.NewP384Point().SetBytes(point) // refuses what is not on the curve
	if err != nil {
		return false
	}

	var u1, product, quotient big.Int
	u1.SetBytes(digest[:]) // as long as n: nothing to cut off
	w := sn.ModInverse(&sn, order)
	product.Mul(&u1, w)
	quotient.QuoRem(&product, order, &u1)
	product.Mul(&rn, w)
	u2 := w
	quotient.QuoRem(&product, order, u2)

	var scalar [numberSize]byte
	g, err := nistec.NewP384Point().ScalarBaseMult(u1.FillBytes(scalar[:]))
	if err != nil {
		return false
	}
	if q, err = q.ScalarMult(q, u2.FillBytes(scalar[:])); err != nil {
		return false
	}
	x, err := g.Add(g, q).BytesX()
	if err != nil {
		return false // the point at infinity
	}
	v := u1.SetBytes(x)
	return v.Mod(v, order).Cmp(&rn) == 0
}

// isScalar reports whether x is from 1 to n-1.
func isScalar(x *big.Int) bool { return x.Sign() > 0 && x.Cmp(order) < 0 }
