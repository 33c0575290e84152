package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"

	"github.com/veraison/go-cose"
)

// es384 verifies ES384 signatures (RFC 9053 section 2.1) for go-cose. Go-cose's
// own verifier would check once more that the key is on its curve, which the
// certificate's parser has done, and take the signature through big integers.
type es384 struct{ key *ecdsa.PublicKey }

func (v es384) Algorithm() cose.Algorithm { return cose.AlgorithmES384 }

func (v es384) Verify(content, signature []byte) error {
	if len(signature) != SignatureSize {
		return cose.ErrVerification
	}
	digest := sha512.Sum384(content)
	// crypto/ecdsa refuses r and s that aren't 1 to n-1.
	if !ecdsa.VerifyASN1(v.key, digest[:], derSignature(signature)) {
		return cose.ErrVerification
	}
	return nil
}

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
