package attestation

import (
	"crypto"
	"crypto/x509"
)

// ParsePublicKey reads PublicKey as DER of a SubjectPublicKeyInfo (RFC 5280
// section 4.1; RSA, ECDSA, Ed25519 or X25519, as AWS KMS wants it for RSA) or
// of a PKCS #1 RSAPublicKey (RFC 8017 appendix A.1.1), and returns the key as
// crypto/x509 does. A raw key, such as 32 bytes of X25519, needs no parsing: use
// PublicKey as it is.
//
// What the key is for, and whether its size suffices, is the caller's to judge.
// The error is an *Error of ReasonPublicKey.
func (c *Claims) ParsePublicKey() (crypto.PublicKey, error) {
	if len(c.PublicKey) == 0 {
		return nil, fail(ReasonPublicKey, fieldPublicKey, "is absent")
	}
	key, err := x509.ParsePKIXPublicKey(c.PublicKey)
	if err == nil {
		return key, nil
	}
	if rsaKey, pkcs1Err := x509.ParsePKCS1PublicKey(c.PublicKey); pkcs1Err == nil {
		return rsaKey, nil
	}
	return nil, &Error{Reason: ReasonPublicKey, Field: fieldPublicKey, Detail: "is neither a SubjectPublicKeyInfo nor a PKCS #1 key", Err: err}
}
