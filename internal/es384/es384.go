// Package es384 verifies ES384 signatures, ECDSA on P-384 with SHA-384: those of
// COSE, two numbers of 48 bytes one after the other (RFC 9053, section 2.1), and
// those of certificates, a DER sequence of the two (RFC 3279, section 2.2.3).
package es384

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"

	"github.com/veraison/go-cose"
)

// SignatureSize is the size of a COSE signature in bytes.
const SignatureSize = 2 * numberSize

const (
	// numberSize is the size of P-384's numbers in bytes.
	numberSize = 48
	// pointSize is the size of an uncompressed point in bytes (SEC 1, section
	// 2.3.3).
	pointSize = 1 + 2*numberSize
)

// Verifier is a cose.Verifier for one key, given as an uncompressed point on
// P-384, which is how a certificate holds it. With anything else nothing
// verifies. It is safe for concurrent use.
type Verifier struct{ Point []byte }

// Algorithm returns ES384.
func (v Verifier) Algorithm() cose.Algorithm { return cose.AlgorithmES384 }

// Verify returns nil if the signature is of the key over the content, and
// cose.ErrVerification otherwise.
func (v Verifier) Verify(content, signature []byte) error {
	if len(signature) != SignatureSize {
		return cose.ErrVerification
	}
	digest := sha512.Sum384(content)
	valid := false
	if validatedOnly() {
		valid = verifyFIPS(v.Point, digest, derSignature(signature))
	} else {
		valid = verify(v.Point, digest, signature[:numberSize], signature[numberSize:])
	}
	if !valid {
		return cose.ErrVerification
	}
	return nil
}

// VerifyDER reports whether the signature, in a certificate's form, is over the
// content and of the key, an uncompressed point on P-384.
func VerifyDER(point, content, signature []byte) bool {
	digest := sha512.Sum384(content)
	if validatedOnly() {
		return verifyFIPS(point, digest, signature)
	}
	r, s, ok := parseDER(signature)
	return ok && verify(point, digest, r, s)
}

func verifyFIPS(point []byte, digest [sha512.Size384]byte, signature []byte) bool {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	return err == nil && ecdsa.VerifyASN1(key, digest[:], signature)
}
