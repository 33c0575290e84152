package cms

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// rebuild encodes the fields again, in the definite form with the content in
// one piece.
func (v envelope) rebuild() []byte {
	b := &builder{outer: tlv, contentTyp: derEnveloped, version: tlv(tagInteger, []byte{2}), riVersion: tlv(tagInteger, []byte{2}),
		rid: tlv(tagContext0, v.keyID), keyEnc: oaepParameters(derSHA256, derSHA256), encKey: tlv(tagOctetString, v.encryptedKey),
		innerType: derData, contentEnc: tlv(tagSequence, derAES256CBC, tlv(tagOctetString, v.iv)), content: tlv(tagContext0, v.ciphertext)}
	return b.bytes()
}

// FuzzParse: what parses has the sizes it must have, says the same when it is
// encoded another way, and doesn't parse with a byte more or less.
func FuzzParse(f *testing.F) {
	key := testKey(f, 2048)
	for _, size := range []int{0, 32, 1500} {
		b := newBuilder(f, key, make([]byte, size))
		f.Add(b.bytes())
		ciphertext := b.ciphertext(f)
		b.outer = tlv
		f.Add(b.bytes())
		b.content = tlv(tagContext0, ciphertext)
		f.Add(b.bytes())
	}
	if root := os.Getenv("KEYVOUCH_FIXTURES"); root != "" {
		names, _ := filepath.Glob(filepath.Join(root, "kms-cms", "*.ber"))
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		v, err := parse(data)
		if !bytes.Equal(data, before) {
			t.Fatal("parse changed its input")
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Reason == "" || e.Detail == "" || e.Offset < -1 || e.Offset > len(data) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if n := len(v.ciphertext); len(v.keyID) != keyIDSize || len(v.iv) != 16 || n == 0 || n%16 != 0 || n > MaxCiphertextSize {
			t.Fatalf("accepted fields of %d, %d and %d bytes", len(v.keyID), len(v.iv), n)
		}
		again, err := parse(v.rebuild())
		if err != nil {
			t.Fatalf("the same fields don't parse in the definite form: %v", err)
		}
		if !bytes.Equal(again.keyID, v.keyID) || !bytes.Equal(again.encryptedKey, v.encryptedKey) ||
			!bytes.Equal(again.iv, v.iv) || !bytes.Equal(again.ciphertext, v.ciphertext) {
			t.Fatal("other fields in the definite form")
		}
		if _, err := parse(data[:len(data)-1]); err == nil {
			t.Fatal("parses without its last byte")
		}
		if _, err := parse(append(before, 0)); err == nil {
			t.Fatal("parses with a byte more")
		}
	})
}

// FuzzOpenChanged: an envelope with bytes changed, other than those of the IV
// and the ciphertext, which CBC leaves open to change, either fails or opens
// to the plaintext that was sealed.
func FuzzOpenChanged(f *testing.F) {
	key := testKey(f, 2048)
	want := []byte("the plaintext that was sealed, in more than one block")
	b := newBuilder(f, key, want)
	a := b.bytes()
	b.content = tlv(tagContext0, b.ciphertext(f))
	forms := [][]byte{a, b.bytes()}
	for i := range forms {
		f.Add(i, 0, []byte{0x30, 0x80})
		f.Add(i, 20, []byte{0xff})
		f.Add(i, 100, make([]byte, 8))
	}
	f.Fuzz(func(t *testing.T, form, at int, with []byte) {
		original := forms[uint(form)%2]
		data := bytes.Clone(original)
		at = int(uint(at) % uint(len(data)))
		copy(data[at:], with)
		v, err := parse(original)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := parse(data)
		if err == nil && (!bytes.Equal(changed.iv, v.iv) || !bytes.Equal(changed.ciphertext, v.ciphertext)) {
			return
		}
		got, err := Open(data, key)
		if err != nil {
			if got != nil {
				t.Fatal("plaintext beside an error")
			}
			return
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("opens to %q", got)
		}
	})
}
