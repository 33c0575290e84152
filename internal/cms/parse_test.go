package cms

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Envelopes that KMS sent. Nobody has their keys, so they are parsed only.
func TestParseReal(t *testing.T) {
	root := os.Getenv("KEYVOUCH_FIXTURES")
	if root == "" {
		t.Skip("KEYVOUCH_FIXTURES is not set: no real envelopes to parse")
	}
	dir := filepath.Join(root, "kms-cms")
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct {
		File             string
		SKI              string `json:"ski_hex"`
		KeyEncAlg        string `json:"key_enc_alg"`
		EncKeyLen        int    `json:"enc_key_len"`
		IVLen            int    `json:"iv_len"`
		CiphertextLen    int    `json:"ciphertext_len"`
		EncryptedContent string `json:"encrypted_content"`
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	parsed := 0
	for _, m := range manifest {
		t.Run(m.File, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(dir, m.File))
			if err != nil {
				t.Fatal(err)
			}
			v, err := parse(data)
			if m.KeyEncAlg == "id-RSAES-OAEP" {
				wantReason(t, nil, err, ReasonKeyEncryption)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parsed++
			if got := hex.EncodeToString(v.keyID); got != m.SKI {
				t.Errorf("key identifier %s, want %s", got, m.SKI)
			}
			if len(v.encryptedKey) != m.EncKeyLen || len(v.iv) != m.IVLen || len(v.ciphertext) != m.CiphertextLen {
				t.Errorf("key, IV and ciphertext of %d, %d and %d bytes, want %d, %d and %d",
					len(v.encryptedKey), len(v.iv), len(v.ciphertext), m.EncKeyLen, m.IVLen, m.CiphertextLen)
			}
			// What the builder makes of the same fields must be the same bytes.
			b := &builder{outer: indef, contentTyp: derEnveloped, version: tlv(tagInteger, []byte{2}), riVersion: tlv(tagInteger, []byte{2}),
				rid: tlv(tagContext0, v.keyID), keyEnc: oaepParameters(derSHA256, derSHA256), encKey: tlv(tagOctetString, v.encryptedKey),
				innerType: derData, contentEnc: tlv(tagSequence, derAES256CBC, tlv(tagOctetString, v.iv)), content: chunked(indef, 1000, v.ciphertext)}
			if m.EncryptedContent == "tag 80 indef=false segments=[]" {
				b.content = tlv(tagContext0, v.ciphertext)
			}
			if !bytes.Equal(b.bytes(), data) {
				t.Error("the test builder makes other bytes than KMS")
			}
		})
	}
	if parsed < 2 {
		t.Errorf("%d real envelopes parsed, want 2 or more", parsed)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range wrongEncodings(t, testKey(t, 2048)) {
		t.Run(test.name, func(t *testing.T) {
			v, err := parse(test.envelope)
			wantReason(t, v.ciphertext, err, test.reason)
		})
	}
}

// wrongEncodings are all the ways in which the encoding can be wrong.
func wrongEncodings(t testing.TB, key *rsa.PrivateKey) []wrong {
	t.Helper()
	good := newBuilder(t, key, random(32))
	goodBytes := good.bytes()
	definite := *good
	definite.outer = tlv
	definiteBytes := definite.bytes()
	set := bytes.Index(goodBytes, []byte{tagSet, 0x82})
	replace := func(data []byte, at, n int, with ...byte) []byte {
		return append(append(bytes.Clone(data[:at]), with...), data[at+n:]...)
	}

	return []wrong{
		{"nothing", nil, ReasonSize},
		{"too large", make([]byte, MaxEnvelopeSize+1), ReasonSize},
		{"one byte", []byte{0x30}, ReasonTruncated},
		{"only a header", []byte{0x30, 0x80}, ReasonTruncated},
		{"text", []byte("AccessDenied"), ReasonTag},
		{"bytes after the envelope", append(bytes.Clone(goodBytes), 0), ReasonTrailingBytes},
		{"more end-of-contents", append(bytes.Clone(goodBytes), 0, 0), ReasonTrailingBytes},
		{"two envelopes", append(bytes.Clone(goodBytes), goodBytes...), ReasonTrailingBytes},
		{"bytes after a definite envelope", append(bytes.Clone(definiteBytes), 0), ReasonTrailingBytes},
		{"end-of-contents missing", goodBytes[:len(goodBytes)-2], ReasonEndOfContents},
		{"end-of-contents half missing", goodBytes[:len(goodBytes)-1], ReasonEndOfContents},
		{"all end-of-contents missing", goodBytes[:len(goodBytes)-10], ReasonEndOfContents},
		{"end-of-contents with a length", replace(goodBytes, len(goodBytes)-1, 1, 1), ReasonEndOfContents},
		{"end-of-contents early", indef(tagSequence, derEnveloped, indef(tagContext0Cons)), ReasonTag},
		{"deep nesting", bytes.Repeat([]byte{0x30, 0x80}, 3000), ReasonTag},
		{"deep nesting of chunks", bytes.Join([][]byte{goodBytes[:len(goodBytes)-60], bytes.Repeat([]byte{0x24, 0x80}, 2000)}, nil), ReasonTag},
		{"definite envelope cut off", definiteBytes[:len(definiteBytes)-1], ReasonTruncated},
		{"long tag", append([]byte{0x3f, 0x81, 0x10}, goodBytes...), ReasonTag},
		{"huge length", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x06}, ReasonTruncated},
		{"length of five bytes", []byte{0x30, 0x85, 0, 0, 0, 0, 1, 6}, ReasonLength},
		{"length of 127 bytes", append([]byte{0x30, 0xff}, make([]byte, 200)...), ReasonLength},
		{"length cut off", []byte{0x30, 0x84, 0, 0}, ReasonTruncated},
		{"length 2 in two bytes", append([]byte{0x30, 0x81, 0x02}, 6, 0), ReasonLength},
		{"length with a leading zero", replace(goodBytes, set+1, 1, 0x83, 0x00), ReasonLength},
		{"set of indefinite length", replace(goodBytes, set+1, 3, 0x80), ReasonLength},
		{"set longer than what is left", replace(goodBytes, set+2, 1, 0x7f), ReasonTruncated},
		{"set shorter than the recipient", replace(goodBytes, set+3, 1, goodBytes[set+3]-1), ReasonLength},
		{"set longer than the recipient", replace(goodBytes, set+3, 1, goodBytes[set+3]+1), ReasonRecipients},
	}
}

// No prefix of an envelope is one, and the parser says so without a panic.
func TestParsePrefixes(t *testing.T) {
	b := newBuilder(t, testKey(t, 2048), random(1500))
	for _, form := range []func(byte, ...[]byte) []byte{indef, tlv} {
		b.outer = form
		data := b.bytes()
		for n := range len(data) {
			if _, err := parse(data[:n:n]); err == nil {
				t.Fatalf("%d of %d bytes parse", n, len(data))
			}
		}
	}
}

func TestParseAllocations(t *testing.T) {
	key := testKey(t, 2048)
	for _, test := range []struct {
		size int
		want float64
	}{
		{32, 0},               // one chunk: part of the input
		{MaxPlaintextSize, 6}, // several chunks: joined
	} {
		data := newBuilder(t, key, make([]byte, test.size)).bytes()
		got := testing.AllocsPerRun(100, func() {
			if _, err := parse(data); err != nil {
				t.Fatal(err)
			}
		})
		if got > test.want {
			t.Errorf("%d bytes: %v allocations, want at most %v", test.size, got, test.want)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data := newBuilder(b, testKey(b, 2048), make([]byte, 32)).bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	key := testKey(b, 2048)
	data := newBuilder(b, key, make([]byte, 32)).bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(data, key); err != nil {
			b.Fatal(err)
		}
	}
}
