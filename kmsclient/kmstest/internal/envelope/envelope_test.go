package envelope

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/internal/testkeys"
)

// maxEnvelopeLength is the limit of CiphertextForRecipient in the service model, in bytes.
const maxEnvelopeLength = 6144

// skeleton prints the tags and lengths of BER, without the values but for
// object identifiers and integers: what two envelopes of the same shape share.
// It knows only the tags of an envelope and no bounds; tests alone may use it.
func skeleton(t *testing.T, ber []byte) string {
	t.Helper()
	text, rest := skeletonOf(t, ber)
	if len(rest) != 0 {
		t.Fatalf("%d trailing bytes", len(rest))
	}
	return text
}

func skeletonOf(t *testing.T, ber []byte) (text string, rest []byte) {
	t.Helper()
	if len(ber) < 2 {
		t.Fatal("truncated")
	}
	tag, length, header := ber[0], int(ber[1]), 2
	text = fmt.Sprintf("%02x/%02x", tag, ber[1])
	children := func(list []byte, ended func([]byte) bool) (string, []byte) {
		var inner []string
		for !ended(list) {
			var child string
			child, list = skeletonOf(t, list)
			inner = append(inner, child)
		}
		return "(" + strings.Join(inner, " ") + ")", list
	}
	if length == indefinite {
		inner, after := children(ber[2:], func(b []byte) bool { return len(b) >= 2 && b[0] == 0 && b[1] == 0 })
		return text + inner, after[2:]
	}
	if length > 0x80 {
		header += length & 0x7f
		length = 0
		for _, b := range ber[2:header] {
			length = length<<8 | int(b)
			text += fmt.Sprintf("%02x", b)
		}
	}
	value := ber[header : header+length]
	switch {
	case tag&0x20 != 0:
		inner, _ := children(value, func(b []byte) bool { return len(b) == 0 })
		text += inner
	case tag == tagOID || tag == tagInteger:
		text += fmt.Sprintf("=%x", value)
	}
	return text, ber[header+length:]
}

// wantSkeleton is written down from the structure of real messages; content is
// the part that varies.
func wantSkeleton(content string) string {
	return "30/80(06/09=2a864886f70d010703 a0/80(30/80(02/01=02 " +
		"31/82016b(30/820167(02/01=02 80/20 " +
		"30/3c(06/09=2a864886f70d010107 30/2f(a0/0f(30/0d(06/09=608648016503040201 05/00)) a1/1c(30/1a(06/09=2a864886f70d010108 30/0d(06/09=608648016503040201 05/00))))) " +
		"04/820100)) " +
		"30/80(06/09=2a864886f70d010701 30/1d(06/09=60864801650304012a 04/10) " + content + "))))"
}

func sealFor(t *testing.T, key *rsa.PrivateKey, plaintext []byte, form Form) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := Seal(plaintext, &key.PublicKey, spki, form)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func TestEnvelopeShape(t *testing.T) {
	key := testkeys.RSA(2048, 0)
	for _, test := range []struct {
		form    Form
		size    int
		content string
	}{
		{Chunked, 32, "a0/80(04/30)"},
		{Chunked, 1, "a0/80(04/10)"},
		{Chunked, 120, "a0/80(04/8180)"},
		{Chunked, 991, "a0/80(04/8203e0)"},
		{Chunked, 1000, "a0/80(04/8203e8 04/08)"},
		{Chunked, 1999, "a0/80(04/8203e8 04/8203e8)"},
		{Chunked, 4096, "a0/80(04/8203e8 04/8203e8 04/8203e8 04/8203e8 04/70)"},
		{Primitive, 15, "80/10"},
		{Primitive, 32, "80/30"},
		{Primitive, 4096, "80/821010"},
	} {
		envelope := sealFor(t, key, make([]byte, test.size), test.form)
		if got, want := skeleton(t, envelope), wantSkeleton(test.content); got != want {
			t.Errorf("form %d, %d bytes:\n got %s\nwant %s", test.form, test.size, got, want)
		}
		spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if id := sha256.Sum256(spki); !bytes.Contains(envelope, append([]byte{tagContext0, 32}, id[:]...)) {
			t.Error("the recipient is not the SHA-256 of the SPKI")
		}
		if len(envelope) > maxEnvelopeLength {
			t.Errorf("envelope of %d bytes", len(envelope))
		}
	}
}

// Ours have the shape of what KMS really sent: the same tags and lengths.
func TestEnvelopeShapeOfRealOnes(t *testing.T) {
	dir := os.Getenv("KEYVOUCH_FIXTURES")
	if dir == "" {
		t.Skip("KEYVOUCH_FIXTURES is not set: no real envelopes to compare with")
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "kms-cms", "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var real []struct {
		File          string `json:"file"`
		KeyAlgorithm  string `json:"key_enc_alg"`
		CiphertextLen int    `json:"ciphertext_len"`
		Content       string `json:"encrypted_content"`
	}
	if err := json.Unmarshal(manifest, &real); err != nil {
		t.Fatal(err)
	}
	key := testkeys.RSA(2048, 0)
	compared := 0
	for _, r := range real {
		if !strings.Contains(r.KeyAlgorithm, "sha256") {
			continue // one of them is with SHA-1, which is not this server's
		}
		form := Chunked
		if strings.HasPrefix(r.Content, "tag 80") {
			form = Primitive
		}
		envelope, err := os.ReadFile(filepath.Join(dir, "kms-cms", r.File))
		if err != nil {
			t.Fatal(err)
		}
		ours := sealFor(t, key, make([]byte, r.CiphertextLen-1), form)
		if got, want := skeleton(t, ours), skeleton(t, envelope); got != want {
			t.Errorf("%s:\n got %s\nwant %s", r.File, got, want)
		}
		if len(ours) != len(envelope) {
			t.Errorf("%s has %d bytes, ours %d", r.File, len(envelope), len(ours))
		}
		compared++
	}
	if compared < 2 {
		t.Errorf("only %d envelopes were compared", compared)
	}
}

func TestEnvelopeOpens(t *testing.T) {
	key := testkeys.RSA(2048, 0)
	for _, form := range []Form{Chunked, Primitive} {
		for _, size := range []int{1, 16, 32, 1000, 4096} {
			plaintext := make([]byte, size)
			rand.Read(plaintext)
			envelope := sealFor(t, key, plaintext, form)
			if got, err := cms.Open(envelope, key); err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("internal/cms, form %d, %d bytes: %v", form, size, err)
			}
		}
	}
}
