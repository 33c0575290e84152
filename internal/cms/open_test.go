package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
)

func wantReason(t *testing.T, plaintext []byte, err error, want Reason) {
	t.Helper()
	if plaintext != nil {
		t.Errorf("plaintext of %d bytes beside an error", len(plaintext))
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want *Error with reason %q", err, err, want)
	}
	if e.Reason != want {
		t.Fatalf("reason %q, want %q: %v", e.Reason, want, err)
	}
	if e.Detail == "" {
		t.Error("no detail")
	}
}

// forms are the encodings that open.
var forms = []struct {
	name string
	edit func(b *builder, ciphertext []byte)
}{
	{"as KMS, chunks of 1000", func(b *builder, c []byte) {}},
	{"as KMS, primitive content", func(b *builder, c []byte) { b.content = tlv(tagContext0, c) }},
	{"definite, constructed content", func(b *builder, c []byte) { b.outer = tlv; b.content = chunked(tlv, 1000, c) }},
	{"definite, primitive content", func(b *builder, c []byte) { b.outer = tlv; b.content = tlv(tagContext0, c) }},
	{"definite outside, indefinite content", func(b *builder, c []byte) { b.outer = tlv }},
	{"chunks of 1 byte", func(b *builder, c []byte) { b.content = chunked(indef, 1, c[:min(len(c), 1500)]) }},
	{"hash parameters absent", func(b *builder, c []byte) {
		b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence,
			tlv(tagContext0Cons, tlv(tagSequence, derSHA256)),
			tlv(tagContext1Cons, tlv(tagSequence, derMGF1, tlv(tagSequence, derSHA256)))))
	}},
}

func TestOpen(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		for _, size := range []int{0, 1, 15, 16, 17, 32, 999, 1000, 1001, MaxPlaintextSize} {
			for _, form := range forms {
				if form.name == "chunks of 1 byte" && size > 1001 {
					continue // three bytes of envelope for each of ciphertext
				}
				t.Run(fmt.Sprintf("%d bits/%d bytes/%s", bits, size, form.name), func(t *testing.T) {
					key := testKey(t, bits)
					want := random(size)
					b := newBuilder(t, key, want)
					form.edit(b, b.ciphertext(t))
					data := b.bytes()
					before := bytes.Clone(data)
					got, err := Open(data, key)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Fatal("another plaintext")
					}
					if cap(got) != len(got) {
						t.Errorf("capacity %d of a plaintext of %d bytes: the padding can be reached", cap(got), len(got))
					}
					if !bytes.Equal(data, before) {
						t.Error("Open changed the envelope")
					}
				})
			}
		}
	}
}

// wrong is an envelope that must not open.
type wrong struct {
	name     string
	envelope []byte
	reason   Reason
}

func TestOpenRefuses(t *testing.T) {
	key := testKey(t, 2048)
	uniform := errDecrypt().Error()
	for _, test := range append(wrongMeanings(t, key), wrongSecrets(t, key)...) {
		t.Run(test.name, func(t *testing.T) {
			got, err := Open(test.envelope, key)
			wantReason(t, got, err, test.reason)
			if test.reason == ReasonDecrypt && err.Error() != uniform {
				t.Errorf("error %q tells itself from %q", err, uniform)
			}
		})
	}
}

// wrongMeanings are all the ways in which an envelope of the right encoding can
// say the wrong thing.
func wrongMeanings(t testing.TB, key *rsa.PrivateKey) []wrong {
	t.Helper()
	other := testKey(t, 3072)
	plain := random(32)
	issuerAndSerial := tlv(tagSequence, tlv(tagSequence), tlv(tagInteger, []byte{1}))
	label := tlv(tagContext2Cons, tlv(tagSequence, derPSource, tlv(tagOctetString, []byte("label"))))
	emptyLabel := tlv(tagContext2Cons, tlv(tagSequence, derPSource, tlv(tagOctetString)))

	tests := []struct {
		name string
		edit func(b *builder)
		want Reason
	}{
		{"other key", func(b *builder) { b.rid = tlv(tagContext0, keyID(t, other)) }, ReasonOtherRecipient},
		{"key identifier of SHA-1", func(b *builder) { h := sha1.Sum(plain); b.rid = tlv(tagContext0, h[:]) }, ReasonRecipientID},
		{"key identifier of 33 bytes", func(b *builder) { b.rid = tlv(tagContext0, make([]byte, 33)) }, ReasonRecipientID},
		{"empty key identifier", func(b *builder) { b.rid = tlv(tagContext0) }, ReasonRecipientID},
		{"issuer and serial number", func(b *builder) { b.rid = issuerAndSerial }, ReasonRecipientID},
		{"constructed key identifier", func(b *builder) { b.rid = tlv(tagContext0Cons, tlv(tagOctetString, make([]byte, 32))) }, ReasonTag},
		{"no recipient", func(b *builder) { b.recipients = [][]byte{{}} }, ReasonRecipients},
		{"two recipients", func(b *builder) { b.recipients = [][]byte{b.recipient(), b.recipient()} }, ReasonRecipients},
		{"key agreement recipient", func(b *builder) { b.recipients = [][]byte{tlv(tagContext1Cons)} }, ReasonRecipients},
		{"password recipient after ours", func(b *builder) { b.recipients = [][]byte{b.recipient(), tlv(0xa3)} }, ReasonRecipients},

		{"EnvelopedData version 0", func(b *builder) { b.version = tlv(tagInteger, []byte{0}) }, ReasonVersion},
		{"EnvelopedData version 3", func(b *builder) { b.version = tlv(tagInteger, []byte{3}) }, ReasonVersion},
		{"EnvelopedData version 2 in two bytes", func(b *builder) { b.version = tlv(tagInteger, []byte{0, 2}) }, ReasonVersion},
		{"EnvelopedData version empty", func(b *builder) { b.version = tlv(tagInteger) }, ReasonVersion},
		{"recipient version 0", func(b *builder) { b.riVersion = tlv(tagInteger, []byte{0}) }, ReasonVersion},

		{"SignedData", func(b *builder) { b.contentTyp = derSigned }, ReasonContentType},
		{"content other than data", func(b *builder) { b.innerType = derSigned }, ReasonContentType},

		{"PKCS #1 v1.5", func(b *builder) { b.keyEnc = tlv(tagSequence, derRSA, derNull) }, ReasonKeyEncryption},
		{"OAEP without parameters", func(b *builder) { b.keyEnc = tlv(tagSequence, derOAEP) }, ReasonKeyEncryption},
		{"OAEP with empty parameters, SHA-1", func(b *builder) { b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence)) }, ReasonKeyEncryption},
		{"OAEP with SHA-1 named", func(b *builder) { b.keyEnc = oaepParameters(derSHA1, derSHA1) }, ReasonKeyEncryption},
		{"OAEP with SHA-384", func(b *builder) { b.keyEnc = oaepParameters(derSHA384, derSHA384) }, ReasonKeyEncryption},
		{"MGF1 with SHA-1 named", func(b *builder) { b.keyEnc = oaepParameters(derSHA256, derSHA1) }, ReasonKeyEncryption},
		{"MGF1 left out, SHA-1", func(b *builder) {
			b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence, tlv(tagContext0Cons, tlv(tagSequence, derSHA256, derNull))))
		}, ReasonKeyEncryption},
		{"hash left out, SHA-1", func(b *builder) {
			b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence, tlv(tagContext1Cons, tlv(tagSequence, derMGF1, tlv(tagSequence, derSHA256, derNull)))))
		}, ReasonKeyEncryption},
		{"other mask generation function", func(b *builder) {
			b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence, tlv(tagContext0Cons, tlv(tagSequence, derSHA256, derNull)),
				tlv(tagContext1Cons, tlv(tagSequence, derPSource, tlv(tagSequence, derSHA256, derNull)))))
		}, ReasonKeyEncryption},
		{"label", func(b *builder) { b.keyEnc = oaepParameters(derSHA256, derSHA256, label) }, ReasonKeyEncryption},
		{"empty label", func(b *builder) { b.keyEnc = oaepParameters(derSHA256, derSHA256, emptyLabel) }, ReasonKeyEncryption},
		{"more OAEP parameters", func(b *builder) { b.keyEnc = oaepParameters(derSHA256, derSHA256, tlv(0xa3)) }, ReasonTrailingBytes},
		{"NULL of one byte", func(b *builder) {
			b.keyEnc = tlv(tagSequence, derOAEP, tlv(tagSequence, tlv(tagContext0Cons, tlv(tagSequence, derSHA256, tlv(tagNull, []byte{0})))))
		}, ReasonLength},

		{"encrypted key of 255 bytes", func(b *builder) { b.encKey = tlv(tagOctetString, make([]byte, 255)) }, ReasonEncryptedKeySize},
		{"encrypted key of 257 bytes", func(b *builder) { b.encKey = tlv(tagOctetString, make([]byte, 257)) }, ReasonEncryptedKeySize},
		{"no encrypted key", func(b *builder) { b.encKey = tlv(tagOctetString) }, ReasonEncryptedKeySize},

		{"AES-128-CBC", func(b *builder) { b.contentEnc = tlv(tagSequence, derAES128CBC, tlv(tagOctetString, random(16))) }, ReasonContentEncryption},
		{"AES-256-GCM", func(b *builder) { b.contentEnc = tlv(tagSequence, derAES256GCM, tlv(tagSequence)) }, ReasonContentEncryption},
		{"no IV", func(b *builder) { b.contentEnc = tlv(tagSequence, derAES256CBC, tlv(tagOctetString)) }, ReasonIV},
		{"IV of 15 bytes", func(b *builder) { b.contentEnc = tlv(tagSequence, derAES256CBC, tlv(tagOctetString, random(15))) }, ReasonIV},
		{"IV of 17 bytes", func(b *builder) { b.contentEnc = tlv(tagSequence, derAES256CBC, tlv(tagOctetString, random(17))) }, ReasonIV},

		{"no ciphertext, form A", func(b *builder) { b.content = indef(tagContext0Cons) }, ReasonCiphertextSize},
		{"no ciphertext, form B", func(b *builder) { b.content = tlv(tagContext0) }, ReasonCiphertextSize},
		{"ciphertext of 15 bytes", func(b *builder) { b.content = tlv(tagContext0, random(15)) }, ReasonCiphertextSize},
		{"ciphertext of 17 bytes", func(b *builder) { b.content = chunked(indef, 16, random(17)) }, ReasonCiphertextSize},
		{"ciphertext over the bound", func(b *builder) { b.content = tlv(tagContext0, random(MaxCiphertextSize+16)) }, ReasonCiphertextSize},
		{"content absent", func(b *builder) { b.content = nil }, ReasonTag},
		{"empty chunk", func(b *builder) {
			b.content = indef(tagContext0Cons, tlv(tagOctetString), tlv(tagOctetString, random(16)))
		}, ReasonLength},
		{"nested chunk", func(b *builder) {
			b.content = indef(tagContext0Cons, indef(0x24, tlv(tagOctetString, random(16))))
		}, ReasonTag},
		{"chunk that isn't an octet string", func(b *builder) { b.content = indef(tagContext0Cons, tlv(tagInteger, random(16))) }, ReasonTag},
		{"primitive content of indefinite length", func(b *builder) { b.content = indef(tagContext0, random(16)) }, ReasonLength},

		{"originatorInfo", func(b *builder) { b.version = append(b.version, tlv(tagContext0Cons)...) }, ReasonTag},
		{"unprotected attributes", func(b *builder) { b.attributes = tlv(tagContext1Cons) }, ReasonEndOfContents},
		{"unprotected attributes, definite", func(b *builder) { b.outer = tlv; b.attributes = tlv(tagContext1Cons) }, ReasonTrailingBytes},
		{"a second content", func(b *builder) { b.extra = tlv(tagContext0, random(16)) }, ReasonEndOfContents},

		{"encrypted key garbled", func(b *builder) { b.encKey[len(b.encKey)-1] ^= 1 }, ReasonDecrypt},
		{"encrypted key over the modulus", func(b *builder) { b.encKey = tlv(tagOctetString, bytes.Repeat([]byte{0xff}, 256)) }, ReasonDecrypt},
		{"ciphertext garbled", func(b *builder) { b.content = tlv(tagContext0, make([]byte, 48)) }, ReasonDecrypt},
	}
	var all []wrong
	for _, test := range tests {
		b := newBuilder(t, key, plain)
		test.edit(b)
		all = append(all, wrong{test.name, b.bytes(), test.want})
	}
	return all
}

// wrongSecrets are envelopes in which only the key's owner can find the fault.
func wrongSecrets(t testing.TB, key *rsa.PrivateKey) []wrong {
	t.Helper()
	cek := random(32)
	padding := func(pad byte, n int) []byte {
		return append(bytes.Repeat([]byte{7}, 32-n), bytes.Repeat([]byte{pad}, n)...)
	}
	secrets := []struct {
		name   string
		cek    []byte
		padded []byte
	}{
		{"content key of 16 bytes", random(16), padding(16, 16)},
		{"content key of 31 bytes", random(31), padding(16, 16)},
		{"content key of 33 bytes", random(33), padding(16, 16)},
		{"empty content key", nil, padding(16, 16)},
		{"padding 0", cek, padding(0, 16)},
		{"padding 17", cek, padding(17, 17)},
		{"padding 255", cek, padding(255, 16)},
		{"padding 16 of 15 bytes", cek, padding(16, 15)},
		{"padding 2 of 1 byte", cek, padding(2, 1)},
		{"padding differs in the first byte", cek, append(append(make([]byte, 16), 9), bytes.Repeat([]byte{16}, 15)...)},
	}
	var all []wrong
	for _, test := range secrets {
		all = append(all, wrong{test.name, sealPadded(t, key, test.cek, test.padded).bytes(), ReasonDecrypt})
	}
	b := newBuilder(t, key, random(32))
	encKey, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, cek, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.encKey = tlv(tagOctetString, encKey)
	all = append(all, wrong{"OAEP with SHA-1 in fact", b.bytes(), ReasonDecrypt})
	if encKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, cek, []byte("label")); err != nil {
		t.Fatal(err)
	}
	b.encKey = tlv(tagOctetString, encKey)
	return append(all, wrong{"OAEP with a label in fact", b.bytes(), ReasonDecrypt})
}

func TestOpenRefusesKeys(t *testing.T) {
	data := newBuilder(t, testKey(t, 2048), nil).bytes()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]*rsa.PrivateKey{"nil": nil, "zero": {}, "1024 bits": small} {
		t.Run(name, func(t *testing.T) {
			got, err := Open(data, key)
			wantReason(t, got, err, ReasonKey)
		})
	}
	got, err := Open(data, testKey(t, 4096))
	wantReason(t, got, err, ReasonOtherRecipient)
}

// A good padding of each size is accepted, and unpad agrees with the plain way
// to do it on every last byte.
func TestUnpad(t *testing.T) {
	plainly := func(b []byte) (int, bool) {
		n := int(b[len(b)-1])
		if n < 1 || n > 16 {
			return 0, false
		}
		return len(b) - n, bytes.Equal(b[len(b)-n:], bytes.Repeat([]byte{byte(n)}, n))
	}
	for pad := range 256 {
		for n := range 17 {
			block := append(bytes.Repeat([]byte{0xee}, 32-n), bytes.Repeat([]byte{byte(pad)}, n)...)
			wantSize, wantOK := plainly(block)
			size, ok := unpad(block)
			if ok != wantOK || ok && size != wantSize {
				t.Fatalf("padding %d, %d times: %d %v, want %d %v", pad, n, size, ok, wantSize, wantOK)
			}
		}
	}
}

// The longest plaintext is padded with a whole block, in which a longer one
// would fit.
func TestOpenRefusesLongPlaintext(t *testing.T) {
	key := testKey(t, 2048)
	for _, size := range []int{MaxPlaintextSize + 1, MaxPlaintextSize + 15} {
		got, err := Open(newBuilder(t, key, random(size)).bytes(), key)
		wantReason(t, got, err, ReasonDecrypt)
	}
}
