package interop

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyvouch/keyvouch/internal/cms"
)

// TestModuleEnvelope opens a real KMS envelope whose private key is known. It
// and the key stand as strings in a test of another SDK.
func TestModuleEnvelope(t *testing.T) {
	const file = "crypto/cms/cms_test.go"
	path := filepath.Join(moduleDir(t, "github.com/edgebitio/nitro-enclaves-sdk-go"), file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var key *rsa.PrivateKey
	for _, s := range stringLiterals(t, file, source) {
		if block, _ := pem.Decode([]byte(s)); block != nil {
			if key, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
				t.Fatal(err)
			}
		}
	}
	if key == nil {
		t.Fatalf("no private key in %s", path)
	}
	envelopes := 0
	for _, b := range blobs(t, file, source) {
		if !bytes.HasPrefix(b, []byte{0x30, 0x80}) {
			continue
		}
		envelopes++
		plaintext, err := cms.Open(b, key)
		if err != nil {
			t.Fatal(err)
		}
		// The value stands in the other test as a list of bytes; its beginning
		// and its length are enough to recognise it.
		if want := []byte{0x3b, 0xe8, 0x2c, 0x44, 0x0f, 0x06, 0xcb, 0x4d}; len(plaintext) != 32 || !bytes.HasPrefix(plaintext, want) {
			t.Errorf("the envelope's data key is %d bytes and begins %x, not 32 bytes and %x", len(plaintext), plaintext[:min(8, len(plaintext))], want)
		}
	}
	if envelopes != 1 {
		t.Errorf("found %d envelopes in %s, not 1", envelopes, path)
	}
}
