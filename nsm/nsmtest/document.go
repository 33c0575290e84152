package nsmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
)

// Document is what goes into an attestation document before it is signed, in
// the order in which it is encoded. Any nil slice or map is written as null,
// which real documents have for the last three only; an empty one is written as
// such.
type Document struct {
	// ModuleID names the NSM.
	ModuleID string

	// Digest is the hash function of the PCRs, "SHA384".
	Digest string

	// TimestampMillis is the time of signing, in milliseconds since 1970 UTC.
	TimestampMillis uint64

	// PCRs are the locked PCRs.
	PCRs map[int][]byte

	// Certificate is the leaf's certificate, DER.
	Certificate []byte

	// CABundle holds the authorities' certificates, DER, the root first.
	CABundle [][]byte

	// PublicKey, UserData and Nonce are what the request asked for, or nil.
	PublicKey, UserData, Nonce []byte
}

// protectedHeader is the encoding of {1: -35}: ES384 (RFC 9053, section 2.1).
var protectedHeader = []byte{0xa1, 0x01, 0x38, 0x22}

// payload encodes the document as hardware does.
func (d *Document) payload(legacy bool) []byte {
	var b []byte
	if legacy {
		b = appendHead(b, majorMap, 9)
	} else {
		b = append(b, majorMap|cborIndefinite)
	}
	b = appendText(appendText(b, "module_id"), d.ModuleID)
	b = appendText(appendText(b, "digest"), d.Digest)
	b = appendHead(appendText(b, "timestamp"), majorUint, d.TimestampMillis)

	b = appendText(b, "pcrs")
	if d.PCRs == nil {
		b = append(b, cborNull)
	} else {
		b = appendHead(b, majorMap, uint64(len(d.PCRs)))
		for _, index := range sortedIndexes(d.PCRs) {
			b = appendBytesOrNull(appendInt(b, index), d.PCRs[index])
		}
	}

	b = appendBytesOrNull(appendText(b, "certificate"), d.Certificate)
	b = appendText(b, "cabundle")
	if d.CABundle == nil {
		b = append(b, cborNull)
	} else {
		b = appendHead(b, majorArray, uint64(len(d.CABundle)))
		for _, certificate := range d.CABundle {
			b = appendBytesOrNull(b, certificate)
		}
	}

	b = appendBytesOrNull(appendText(b, "public_key"), d.PublicKey)
	b = appendBytesOrNull(appendText(b, "user_data"), d.UserData)
	b = appendBytesOrNull(appendText(b, "nonce"), d.Nonce)
	if !legacy {
		b = append(b, cborBreak)
	}
	return b
}

// sign wraps a payload in an untagged COSE_Sign1 (RFC 9052, section 4.2).
func sign(key crypto.Signer, payload []byte) ([]byte, error) {
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, &Error{Op: "Send", Reason: ReasonSignature, Detail: fmt.Sprintf(
			"the leaf's key is a %T, which cannot sign with ES384; make the document from what Chain returns", key)}
	}
	// Sig_structure (RFC 9052, section 4.4), without external data.
	tbs := appendHead(nil, majorArray, 4)
	tbs = appendText(tbs, "Signature1")
	tbs = appendBytes(tbs, protectedHeader)
	tbs = appendBytes(tbs, nil)
	tbs = appendBytes(tbs, payload)
	digest := sha512.Sum384(tbs)
	r, s, err := ecdsa.Sign(rand.Reader, ec, digest[:])
	if err != nil {
		return nil, &Error{Op: "Send", Reason: ReasonSignature, Detail: "signing a document", Err: err}
	}
	// r ‖ s, each as long as the curve's order: 96 bytes for P-384.
	size := (ec.Params().N.BitLen() + 7) / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	s.FillBytes(signature[size:])

	b := appendHead(nil, majorArray, 4)
	b = appendBytes(b, protectedHeader)
	b = appendHead(b, majorMap, 0)
	b = appendBytes(b, payload)
	return appendBytes(b, signature), nil
}
