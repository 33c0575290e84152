// Package es384 verifies ES384 signatures: ECDSA on P-384 with SHA-384, as the
// two numbers of 48 bytes each one after the other (RFC 9053 section 2.1).
package es384

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"

	"github.com/veraison/go-cose"
)

// SignatureSize is the size of a signature in bytes.
const SignatureSize = 96

// Verifier is a cose.Verifier for one key, which must be on P-384. Go-cose's own
// would check once more that the key is on its curve, which the parser of its
// certificate has done, and take the signature through big integers.
//
// It is safe for concurrent use.
type Verifier struct{ Key *ecdsa.PublicKey }

// Algorithm returns ES384.
func (v Verifier) Algorithm() cose.Algorithm { return cose.AlgorithmES384 }

// Verify returns nil if the signature is of the key over the content, and
// cose.ErrVerification otherwise.
func (v Verifier) Verify(content, signature []byte) error {
	if len(signature) != SignatureSize {
		return cose.ErrVerification
	}
	digest := sha512.Sum384(content)
	// crypto/ecdsa refuses r and s that aren't 1 to n-1.
	if !ecdsa.VerifyASN1(v.Key, digest[:], derSignature(signature)) {
		return cose.ErrVerification
	}
	return nil
}

const (
	derInteger  = 0x02
	derSequence = 0x30
)

// derSignature writes r ‖ s as the ECDSA-Sig-Value of RFC 3279 section 2.2.3.
func derSignature(signature []byte) []byte {
	const half = SignatureSize / 2
	der := make([]byte, 2, 2+2*(2+1+half))
	for _, number := range [][]byte{signature[:half], signature[half:]} {
		number = bytes.TrimLeft(number, "\x00")
		sign := 0
		if len(number) == 0 || number[0] >= 0x80 {
			sign = 1 // a zero before it, or it would be negative; or zero itself
		}
		der = append(der, derInteger, byte(sign+len(number)))
		der = append(der, make([]byte, sign)...)
		der = append(der, number...)
	}
	der[0], der[1] = derSequence, byte(len(der)-2)
	return der
}
