package vectors

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
)

// es384 is the protected header {1: -35}.
var es384 = []byte{0xa1, 0x01, 0x38, 0x22}

// halfSize is the size of r and of s in an ES384 signature.
const halfSize = 48

// message is a COSE_Sign1 structure in encoded parts.
type message struct{ protected, unprotected, payload, signature []byte }

// newMessage is the structure as NSMs write it.
func newMessage(payload, signature []byte) message {
	return message{cborBytes(es384), cborMap(), cborBytes(payload), cborBytes(signature)}
}

func (m message) encode() []byte {
	return cborArray(m.protected, m.unprotected, m.payload, m.signature)
}

// sigStructure is what is signed (RFC 9052, section 4.4).
func sigStructure(protected, payload []byte) []byte {
	return cborArray(cborText("Signature1"), cborBytes(protected), cborBytes(nil), cborBytes(payload))
}

// es384Signature signs with SHA-384 and writes r and s in 48 bytes each. With a
// key that cannot give that, it is the signature of zeros: a verifier is to look
// at the key first.
func (l *lab) es384Signature(key crypto.Signer, signed []byte) []byte {
	digest := sha512.Sum384(signed)
	return l.signDigest(key, digest[:])
}

func (l *lab) signDigest(key crypto.Signer, digest []byte) []byte {
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok || k.Curve.Params().BitSize > 8*halfSize {
		return make([]byte, 2*halfSize)
	}
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	if err != nil {
		l.note(err)
		return nil
	}
	return halves(r, s)
}

func halves(r, s *big.Int) []byte {
	b := make([]byte, 2*halfSize)
	r.FillBytes(b[:halfSize])
	s.FillBytes(b[halfSize:])
	return b
}

// order is n of P-384.
func order() *big.Int { return elliptic.P384().Params().N }

// document is the payload, signed by key as an NSM would.
func (l *lab) document(key crypto.Signer, payload []byte) []byte {
	return newMessage(payload, l.es384Signature(key, sigStructure(es384, payload))).encode()
}
