// Package envelope writes the CMS message in which KMS sends a plaintext to a
// recipient.
//
// It is written out by hand, although the client side has a parser for the same
// structure: one shared description could be wrong on both sides.
package envelope

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
)

// Form is how the encrypted content is encoded. KMS has sent both.
type Form int

const (
	// Chunked is a constructed [0] of indefinite length that holds octet strings
	// of at most 1000 bytes.
	Chunked Form = iota
	// Primitive is one primitive [0] with a definite length.
	Primitive
)

// chunkSize is the length of an octet string, in bytes. The last may be shorter.
const chunkSize = 1000

// BER identifiers (X.690) and the end-of-contents octets.
const (
	tagInteger     = 0x02
	tagOctetString = 0x04
	tagOID         = 0x06
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContext0    = 0x80 // primitive
	tagContext0Con = 0xa0 // constructed
	tagContext1Con = 0xa1
	indefinite     = 0x80
)

var (
	endOfContents = []byte{0, 0}
	asn1Null      = []byte{0x05, 0}

	oidEnvelopedData = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3}          // RFC 5652, section 6
	oidData          = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}          // RFC 5652, section 4
	oidRSAESOAEP     = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7}          // RFC 8017, appendix A.2.1
	oidMGF1          = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8}          // RFC 8017, appendix A.2.1
	oidSHA256        = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01} // RFC 5754, section 2.2
	oidAES256CBC     = []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a} // RFC 3565, section 4.1
)

// Seal encrypts plaintext for the recipient's key as KMS does. spki is the key as
// SubjectPublicKeyInfo in DER. The result is a CMS EnvelopedData (RFC 5652, section
// 6.1) with one key transport recipient, named by the SHA-256 of spki, RSAES-OAEP
// with SHA-256, and AES-256-CBC for the content.
func Seal(plaintext []byte, public *rsa.PublicKey, spki []byte, form Form) ([]byte, error) {
	contentKey := make([]byte, 32)
	iv := make([]byte, aes.BlockSize)
	rand.Read(contentKey)
	rand.Read(iv)
	encryptedKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, contentKey, nil)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		return nil, err
	}
	padding := aes.BlockSize - len(plaintext)%aes.BlockSize // PKCS #7: RFC 5652, section 6.3
	content := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)
	return build(sha256.Sum256(spki), encryptedKey, iv, content, form), nil
}

func build(keyID [sha256.Size]byte, encryptedKey, iv, content []byte, form Form) []byte {
	sha := tlv(tagSequence, tlv(tagOID, oidSHA256), asn1Null)
	oaep := tlv(tagSequence,
		tlv(tagOID, oidRSAESOAEP),
		tlv(tagSequence,
			tlv(tagContext0Con, sha),
			tlv(tagContext1Con, tlv(tagSequence, tlv(tagOID, oidMGF1), sha))))
	recipient := tlv(tagSequence,
		tlv(tagInteger, []byte{2}),
		tlv(tagContext0, keyID[:]),
		oaep,
		tlv(tagOctetString, encryptedKey))
	encryptedContent := indefiniteTLV(tagSequence,
		tlv(tagOID, oidData),
		tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagOctetString, iv)),
		encodeContent(content, form))
	return indefiniteTLV(tagSequence,
		tlv(tagOID, oidEnvelopedData),
		indefiniteTLV(tagContext0Con,
			indefiniteTLV(tagSequence,
				tlv(tagInteger, []byte{2}),
				tlv(tagSet, recipient),
				encryptedContent)))
}

func encodeContent(content []byte, form Form) []byte {
	if form == Primitive {
		return tlv(tagContext0, content)
	}
	var chunks [][]byte
	for start := 0; start < len(content); start += chunkSize {
		chunks = append(chunks, tlv(tagOctetString, content[start:min(start+chunkSize, len(content))]))
	}
	return indefiniteTLV(tagContext0Con, chunks...)
}

// tlv encodes with a definite length, in the fewest bytes (X.690, section 10.1).
func tlv(tag byte, contents ...[]byte) []byte {
	value := bytes.Join(contents, nil)
	encoded := []byte{tag}
	switch n := len(value); {
	case n < 0x80:
		encoded = append(encoded, byte(n))
	case n < 0x100:
		encoded = append(encoded, 0x81, byte(n))
	default: // below 64 KiB: KMS's plaintexts have a few KiB
		encoded = append(encoded, 0x82, byte(n>>8), byte(n))
	}
	return append(encoded, value...)
}

// indefiniteTLV encodes with the indefinite form (X.690, section 8.1.3.6).
func indefiniteTLV(tag byte, contents ...[]byte) []byte {
	encoded := append([]byte{tag, indefinite}, bytes.Join(contents, nil)...)
	return append(encoded, endOfContents...)
}
