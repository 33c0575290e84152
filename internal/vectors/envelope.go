package vectors

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"math/big"

	"github.com/keyvouch/keyvouch/attestation"
)

// envelope alters the COSE_Sign1 structure around a good payload.
func (l *lab) envelope() File {
	f := l.newFile("envelope", "The COSE_Sign1 structure around the payload (RFC 9052), as bytes and as what is signed.")
	l.framing(f)
	l.headers(f)
	l.signatures(f)
	l.signedBytes(f)
	return *f
}

// good is the message that the others are made of.
func (l *lab) good() message {
	payload := l.base.encode()
	return newMessage(payload, l.es384Signature(l.path.key, sigStructure(es384, payload)))
}

func (l *lab) framing(f *File) {
	raw, m := l.raw, l.good()

	f.accept("untagged", "A document as the NSM writes it.", raw)
	f.accept("tag-18", "Under CBOR tag 18, COSE_Sign1, which AWS's text allows.", tag(18, raw))

	const notSign1, malformed = attestation.ReasonNotSign1, attestation.ReasonMalformedCBOR
	f.reject(attestation.ReasonDocumentSize, "empty", "No bytes at all.", []byte{})
	f.reject(attestation.ReasonDocumentSize, "over-long", "One byte more than a payload of 16384 and 256 for what is around it.", make([]byte, attestation.MaxDocumentSize+1))
	f.reject(malformed, "truncated-in-head", "Only the first byte.", raw[:1])
	f.reject(malformed, "truncated-in-protected-header", "Ends inside the protected header.", raw[:4])
	f.reject(malformed, "truncated-in-payload", "The first 1000 bytes.", raw[:1000])
	f.reject(malformed, "truncated-before-signature", "Ends where the signature should begin.", raw[:len(raw)-98])
	f.reject(malformed, "truncated-in-signature", "The last byte is missing.", raw[:len(raw)-1])
	f.reject(attestation.ReasonTrailingBytes, "trailing-byte", "A zero byte after the document.", join(raw, []byte{0}))
	f.reject(attestation.ReasonTrailingBytes, "trailing-document", "The document twice, one after the other.", join(raw, raw))

	f.reject(notSign1, "tag-18-twice", "Tag 18 inside tag 18.", tag(18, tag(18, raw)))
	f.reject(notSign1, "tag-98", "Under tag 98, COSE_Sign.", tag(98, raw))
	f.reject(notSign1, "tag-17", "Under tag 17, COSE_Mac0.", tag(17, raw))
	f.reject(notSign1, "tag-61", "Under tag 61, CWT.", tag(61, raw))
	f.reject(notSign1, "tag-55799", "Under tag 55799, self-described CBOR.", tag(55799, raw))
	f.reject(malformed, "tag-18-long", "Tag 18 in two bytes too many.", join([]byte{0xd9, 0, 18}, raw))
	f.reject(notSign1, "tag-18-alone", "Tag 18 around an empty array.", tag(18, cborArray()))
	f.reject(notSign1, "three-elements", "Without the signature.", cborArray(m.protected, m.unprotected, m.payload))
	f.reject(notSign1, "five-elements", "A null as fifth element.", cborArray(m.protected, m.unprotected, m.payload, m.signature, cborNull))
	f.reject(notSign1, "indefinite-array", "The array of indefinite length.", join(openArray, raw[1:], cborBreak))
	f.reject(malformed, "array-head-not-shortest", "The array's count in a second byte.", join([]byte{majorArray | 24, 4}, raw[1:]))
	f.reject(notSign1, "map", "A map instead of an array.", cborMap())
	f.reject(notSign1, "wrapped-in-bytes", "The document inside a byte string.", cborBytes(raw))
	f.reject(notSign1, "base64-text", "The document's base64 text, not decoded.", []byte(base64.StdEncoding.EncodeToString(raw)))
	f.reject(notSign1, "hexadecimal-text", "The document's hexadecimal text, not decoded.", []byte(hex.EncodeToString(raw)))

	payload := l.base.encode()
	with := func(payload []byte) []byte { return message{m.protected, m.unprotected, payload, m.signature}.encode() }
	f.reject(notSign1, "detached-payload", "The payload is null, as in detached signatures.", with(cborNull))
	f.reject(attestation.ReasonPayloadSize, "empty-payload", "The payload is an empty byte string.", with(cborBytes(nil)))
	f.reject(attestation.ReasonPayloadSize, "over-long-payload", "A payload of 16385 bytes.", with(cborBytes(make([]byte, attestation.MaxPayloadSize+1))))
	f.reject(notSign1, "payload-is-text", "The payload is a text string.", with(join(head(majorText, uint64(len(payload))), payload)))
	f.reject(notSign1, "payload-not-wrapped", "The payload's map stands in the array without a byte string around it.", with(payload))
	f.reject(malformed, "payload-in-chunks", "The payload is a byte string of indefinite length.", with(join(openBytes, m.payload, cborBreak)))
	f.reject(malformed, "payload-length-not-shortest", "The payload's length in eight bytes.", with(join(longHead(majorBytes, uint64(len(payload))), payload)))
	f.reject(malformed, "payload-length-beyond-end", "The payload claims 16384 bytes and the input ends.", join(head(majorArray, 4), m.protected, m.unprotected, head(majorBytes, attestation.MaxPayloadSize)))
	f.reject(attestation.ReasonPayloadSize, "payload-length-absurd", "The payload claims 2^64-1 bytes.", join(head(majorArray, 4), m.protected, m.unprotected, head(majorBytes, 1<<64-1)))
}

// headers signs each protected header as it stands, so that only its content
// is wrong.
func (l *lab) headers(f *File) {
	payload := l.base.encode()
	protected := func(header []byte) []byte {
		m := newMessage(payload, l.es384Signature(l.path.key, sigStructure(header, payload)))
		m.protected = cborBytes(header)
		return m.encode()
	}
	const algorithm = attestation.ReasonAlgorithm
	f.reject(algorithm, "es256", "The algorithm is -7, ES256; signed over this header, as in all of these.", protected([]byte{0xa1, 1, 0x26}))
	f.reject(algorithm, "es512", "The algorithm is -36, ES512.", protected([]byte{0xa1, 1, 0x38, 0x23}))
	f.reject(algorithm, "algorithm-text", "The algorithm is the text ES384.", protected(cborMap([]byte{1}, cborText("ES384"))))
	f.reject(algorithm, "algorithm-positive", "The algorithm is 34, an unsigned integer.", protected([]byte{0xa1, 1, 0x18, 34}))
	f.reject(algorithm, "algorithm-not-shortest", "The algorithm -35 in a byte too many.", protected([]byte{0xa1, 1, 0x39, 0, 0x22}))
	f.reject(algorithm, "algorithm-twice", "The algorithm occurs twice.", protected([]byte{0xa2, 1, 0x38, 0x22, 1, 0x38, 0x22}))
	f.reject(algorithm, "protected-header-empty", "The protected header is an empty byte string.", protected(nil))
	f.reject(algorithm, "protected-header-empty-map", "The protected header is an empty map.", protected(cborMap()))
	f.reject(algorithm, "protected-header-extra-key", "A key identifier beside the algorithm.", protected(join([]byte{0xa2}, es384[1:], []byte{4, 0x41, 'k'})))
	f.reject(algorithm, "protected-header-crit", "A critical header that no verifier knows.", protected(join([]byte{0xa2}, es384[1:], []byte{2, 0x81, 0x18, 99})))
	f.reject(algorithm, "protected-header-trailing-byte", "A byte after the map inside the protected header.", protected(join(es384, []byte{0})))
	f.reject(algorithm, "protected-header-indefinite", "The map inside is of indefinite length.", protected(join(openMap, es384[1:], cborBreak)))
	f.reject(algorithm, "protected-header-other-key", "The algorithm under the key -1.", protected([]byte{0xa1, 0x20, 0x38, 0x22}))

	good := l.good()
	replaced := func(protected, unprotected []byte) []byte {
		return message{protected, unprotected, good.payload, good.signature}.encode()
	}
	f.reject(algorithm, "algorithm-only-unprotected", "The algorithm stands in the unprotected header.", replaced(cborBytes(nil), es384))
	f.reject(attestation.ReasonNotSign1, "protected-header-not-wrapped", "The protected header is a map, not a byte string.", replaced(es384, good.unprotected))
	f.reject(attestation.ReasonNotSign1, "protected-header-null", "The protected header is null.", replaced(cborNull, good.unprotected))

	const unprotected = attestation.ReasonUnprotectedHeader
	f.reject(unprotected, "unprotected-header", "A key identifier in the unprotected header: nothing signs it.", replaced(good.protected, []byte{0xa1, 4, 0x41, 'k'}))
	f.reject(unprotected, "unprotected-algorithm", "The algorithm a second time, unprotected.", replaced(good.protected, es384))
	f.reject(attestation.ReasonNotSign1, "unprotected-header-null", "The unprotected header is null.", replaced(good.protected, cborNull))
	f.reject(attestation.ReasonNotSign1, "unprotected-header-array", "The unprotected header is an array.", replaced(good.protected, cborArray()))
	f.reject(attestation.ReasonMalformedCBOR, "unprotected-header-indefinite", "The unprotected header is an empty map of indefinite length.", replaced(good.protected, join(openMap, cborBreak)))
}

// signatures replaces the signature.
func (l *lab) signatures(f *File) {
	payload := l.base.encode()
	good := l.es384Signature(l.path.key, sigStructure(es384, payload))
	r, s := new(big.Int).SetBytes(good[:halfSize]), new(big.Int).SetBytes(good[halfSize:])
	n, zero := order(), new(big.Int)
	with := func(signature []byte) []byte { return newMessage(payload, signature).encode() }

	f.accept("signature-twin", "The signature (r, n-s) of a signature (r, s). Anyone can make it, and ECDSA accepts it: never recognise a replay by a document's bytes.", with(halves(r, new(big.Int).Sub(n, s))))

	const size, wrong = attestation.ReasonSignatureSize, attestation.ReasonSignature
	f.reject(size, "signature-empty", "No signature.", with(nil))
	f.reject(size, "signature-95-bytes", "The last byte is missing.", with(good[:95]))
	f.reject(size, "signature-97-bytes", "A zero byte before the signature.", with(join([]byte{0}, good)))
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	l.note(err)
	f.reject(size, "signature-der", "The right signature in DER, as X.509 has it.", with(der))

	f.reject(wrong, "signature-zeros", "r and s are zero.", with(halves(zero, zero)))
	f.reject(wrong, "signature-r-zero", "r is zero.", with(halves(zero, s)))
	f.reject(wrong, "signature-s-zero", "s is zero.", with(halves(r, zero)))
	f.reject(wrong, "signature-r-order", "r is n, the order of the curve.", with(halves(n, s)))
	f.reject(wrong, "signature-s-order", "s is n.", with(halves(r, n)))
	f.reject(wrong, "signature-order", "r and s are n.", with(halves(n, n)))
	f.reject(wrong, "signature-ones", "All bits are set, so that r and s are over n.", with(bytes.Repeat([]byte{0xff}, 2*halfSize)))
	f.reject(wrong, "signature-swapped", "s before r.", with(halves(s, r)))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	f.reject(wrong, "signature-bit", "The last bit is flipped.", with(flipped))

	m := l.good()
	replaced := func(signature []byte) []byte {
		return message{m.protected, m.unprotected, m.payload, signature}.encode()
	}
	f.reject(attestation.ReasonNotSign1, "signature-null", "The signature is null.", replaced(cborNull))
	f.reject(attestation.ReasonNotSign1, "signature-text", "The signature is a text string.", replaced(join(head(majorText, uint64(len(good))), good)))
	f.reject(attestation.ReasonMalformedCBOR, "signature-in-chunks", "The signature is a byte string of indefinite length.", replaced(join(openBytes, cborBytes(good), cborBreak)))
}

// signedBytes signs something else than the Sig_structure over the bytes that
// are sent.
func (l *lab) signedBytes(f *File) {
	indefinite, definite := l.base.encode(), l.base.encodeDefinite()
	sent := func(payload, signed []byte) []byte {
		return newMessage(payload, l.es384Signature(l.path.key, signed)).encode()
	}
	const wrong = attestation.ReasonSignature
	f.reject(wrong, "signed-definite-sent-indefinite", "Signed over the payload re-encoded with a definite length.", sent(indefinite, sigStructure(es384, definite)))
	f.reject(wrong, "signed-indefinite-sent-definite", "Sent re-encoded with a definite length.", sent(definite, sigStructure(es384, indefinite)))
	f.reject(wrong, "signed-other-header-encoding", "Signed over a longer encoding of the protected header.", sent(indefinite, sigStructure([]byte{0xa1, 1, 0x39, 0, 0x22}, indefinite)))
	f.reject(wrong, "signed-empty-header", "Signed over an empty protected header.", sent(indefinite, sigStructure(nil, indefinite)))
	parts := func(context string, aad []byte) []byte {
		return cborArray(cborText(context), cborBytes(es384), cborBytes(aad), cborBytes(indefinite))
	}
	f.reject(wrong, "signed-context-signature", "Signed with the context of COSE_Sign.", sent(indefinite, parts("Signature", nil)))
	f.reject(wrong, "signed-external-data", "Signed with external data.", sent(indefinite, parts("Signature1", []byte{1})))
	f.reject(wrong, "signed-payload-alone", "Signed over the payload without a Sig_structure.", sent(indefinite, indefinite))

	sha256Sum, sha512Sum := sha256.Sum256(sigStructure(es384, indefinite)), sha512.Sum512(sigStructure(es384, indefinite))
	f.reject(wrong, "signed-sha256", "Signed with SHA-256.", newMessage(indefinite, l.signDigest(l.path.key, sha256Sum[:])).encode())
	f.reject(wrong, "signed-sha512", "Signed with SHA-512.", newMessage(indefinite, l.signDigest(l.path.key, sha512Sum[:])).encode())

	f.reject(wrong, "signed-by-another-key", "The victim's certificates, signed with an attacker's key.", l.document(l.newKey(), indefinite))
	f.reject(wrong, "signed-by-the-authority", "Signed with the key of the certificate above the leaf.", l.document(l.keys[3], indefinite))
	changed := l.base.set("user_data", cborBytes([]byte("an attacker's"))).encode()
	f.reject(wrong, "payload-changed", "User data set after signing.", sent(changed, sigStructure(es384, indefinite)))
}
