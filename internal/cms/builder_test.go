package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"sync"
	"testing"

	"github.com/keyvouch/keyvouch/internal/testkeys"
)

// testKey returns a key of that size, the same one in the whole test binary.
func testKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	keysMutex.Lock()
	defer keysMutex.Unlock()
	if keys[bits] == nil {
		key, err := testkeys.Next(bits)
		if err != nil {
			t.Fatal(err)
		}
		keys[bits] = key
	}
	return keys[bits]
}

var (
	keysMutex sync.Mutex
	keys      = map[int]*rsa.PrivateKey{}
)

func keyID(t testing.TB, key *rsa.PrivateKey) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(spki)
	return id[:]
}

// tlv encodes an element of definite length, in the shortest form.
func tlv(tag byte, parts ...[]byte) []byte {
	value := bytes.Join(parts, nil)
	n := len(value)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, value...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, value...)
	case n < 0x10000:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, value...)
	default:
		panic("longer than any envelope")
	}
}

// indef encodes an element of indefinite length.
func indef(tag byte, parts ...[]byte) []byte {
	return append(append([]byte{tag, 0x80}, bytes.Join(parts, nil)...), 0, 0)
}

func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic(err)
	}
	return der
}

// The identifiers are written in arcs here and in bytes in the package: one
// checks the other.
var (
	derData      = oid(1, 2, 840, 113549, 1, 7, 1)
	derEnveloped = oid(1, 2, 840, 113549, 1, 7, 3)
	derSigned    = oid(1, 2, 840, 113549, 1, 7, 2)
	derRSA       = oid(1, 2, 840, 113549, 1, 1, 1)
	derOAEP      = oid(1, 2, 840, 113549, 1, 1, 7)
	derMGF1      = oid(1, 2, 840, 113549, 1, 1, 8)
	derPSource   = oid(1, 2, 840, 113549, 1, 1, 9)
	derSHA1      = oid(1, 3, 14, 3, 2, 26)
	derSHA256    = oid(2, 16, 840, 1, 101, 3, 4, 2, 1)
	derSHA384    = oid(2, 16, 840, 1, 101, 3, 4, 2, 2)
	derAES128CBC = oid(2, 16, 840, 1, 101, 3, 4, 1, 2)
	derAES256CBC = oid(2, 16, 840, 1, 101, 3, 4, 1, 42)
	derAES256GCM = oid(2, 16, 840, 1, 101, 3, 4, 1, 46)
	derNull      = tlv(tagNull)
)

// builder makes envelopes, good ones and, with a field replaced, bad ones. The
// byte slices are whole elements.
type builder struct {
	outer      func(tag byte, parts ...[]byte) []byte // tlv or indef
	contentTyp []byte
	version    []byte
	recipients [][]byte // replaces the one recipient
	riVersion  []byte
	rid        []byte
	keyEnc     []byte
	encKey     []byte
	innerType  []byte
	contentEnc []byte
	content    []byte
	extra      []byte // after encryptedContent, in EncryptedContentInfo
	attributes []byte // after EncryptedContentInfo, in EnvelopedData
}

func oaepParameters(hash, mgfHash []byte, more ...[]byte) []byte {
	return tlv(tagSequence, derOAEP, tlv(tagSequence, append([][]byte{
		tlv(tagContext0Cons, tlv(tagSequence, hash, derNull)),
		tlv(tagContext1Cons, tlv(tagSequence, derMGF1, tlv(tagSequence, mgfHash, derNull))),
	}, more...)...))
}

// newBuilder makes a builder whose envelope, if nothing is replaced, has the
// shape of KMS's and opens with the key to the plaintext.
func newBuilder(t testing.TB, key *rsa.PrivateKey, plaintext []byte) *builder {
	t.Helper()
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	return sealPadded(t, key, random(32), append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(pad)}, pad)...))
}

// sealPadded seals bytes that are padded already, or wrongly.
func sealPadded(t testing.TB, key *rsa.PrivateKey, cek, padded []byte) *builder {
	t.Helper()
	iv := random(aes.BlockSize)
	ciphertext := make([]byte, len(padded))
	if len(cek) == 32 || len(cek) == 16 {
		block, err := aes.NewCipher(cek)
		if err != nil {
			t.Fatal(err)
		}
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, padded)
	}
	encKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, cek, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &builder{
		outer:      indef,
		contentTyp: derEnveloped,
		version:    tlv(tagInteger, []byte{2}),
		riVersion:  tlv(tagInteger, []byte{2}),
		rid:        tlv(tagContext0, keyID(t, key)),
		keyEnc:     oaepParameters(derSHA256, derSHA256),
		encKey:     tlv(tagOctetString, encKey),
		innerType:  derData,
		contentEnc: tlv(tagSequence, derAES256CBC, tlv(tagOctetString, iv)),
		content:    chunked(indef, 1000, ciphertext),
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// chunked is form A: constructed, the ciphertext in octet strings.
func chunked(form func(byte, ...[]byte) []byte, size int, ciphertext []byte) []byte {
	var parts [][]byte
	for len(ciphertext) > 0 {
		n := min(size, len(ciphertext))
		parts = append(parts, tlv(tagOctetString, ciphertext[:n]))
		ciphertext = ciphertext[n:]
	}
	return form(tagContext0Cons, parts...)
}

func (b *builder) recipient() []byte {
	return tlv(tagSequence, b.riVersion, b.rid, b.keyEnc, b.encKey)
}

func (b *builder) bytes() []byte {
	recipients := b.recipients
	if recipients == nil {
		recipients = [][]byte{b.recipient()}
	}
	return b.outer(tagSequence, b.contentTyp, b.outer(tagContext0Cons, b.outer(tagSequence,
		b.version,
		tlv(tagSet, recipients...),
		b.outer(tagSequence, b.innerType, b.contentEnc, b.content, b.extra),
		b.attributes,
	)))
}

// ciphertext returns what the builder's content holds.
func (b *builder) ciphertext(t testing.TB) []byte {
	t.Helper()
	v, err := parse(b.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return v.ciphertext
}
