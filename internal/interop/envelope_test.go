package interop

import (
	"bytes"
	"testing"

	"github.com/keyvouch/keyvouch/internal/cms"
)

// TestModuleEnvelope opens a real KMS envelope whose private key is known.
func TestModuleEnvelope(t *testing.T) {
	envelope, key, err := RealEnvelope()
	if err != nil {
		t.Fatal(err)
	}
	plaintext, err := cms.Open(envelope, key)
	if err != nil {
		t.Fatal(err)
	}
	// The value stands in the other test as a list of bytes; its beginning and
	// its length are enough to recognise it.
	if want := []byte{0x3b, 0xe8, 0x2c, 0x44, 0x0f, 0x06, 0xcb, 0x4d}; len(plaintext) != 32 || !bytes.HasPrefix(plaintext, want) {
		t.Errorf("the envelope's data key is %d bytes and begins %x, not 32 bytes and %x", len(plaintext), plaintext[:min(8, len(plaintext))], want)
	}
}
