package interop

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/keyvouch/keyvouch/internal/cms"
)

const contentKeySize = 32

// TestWycheproofOAEP takes RSA-OAEP ciphertexts as the encrypted key of an
// envelope, whose content is under what the vector says the ciphertext decrypts
// to. One that isn't 32 bytes can't be a content-encryption key, and one with a
// label isn't what KMS sends: however well they decrypt, they don't open.
//
// Wycheproof's forged paddings are of messages of 6 bytes, so that not only the
// padding is at fault. Vectors of other hash functions have good paddings and
// messages of 32 bytes: to take one for SHA-256's would open it.
func TestWycheproofOAEP(t *testing.T) {
	for name, want := range map[string]tally{
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": {opens: 1, doesntDecrypt: 31, otherSize: 5},
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": {opens: 1, doesntDecrypt: 31, otherSize: 5},
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": {opens: 1, doesntDecrypt: 31, otherSize: 5},
		"rsa_oaep_2048_sha256_mgf1sha1_test.json":   {opens: 0, doesntDecrypt: 26, otherSize: 5},
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     {opens: 0, doesntDecrypt: 31, otherSize: 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := openWycheproof(t, name); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// tally says how many vectors of a file end how.
type tally struct{ opens, doesntDecrypt, otherSize int }

func openWycheproof(t *testing.T, name string) (n tally) {
	t.Helper()
	var file struct {
		TestGroups []struct {
			Sha, MgfSha, PrivateKeyPkcs8 string
			Tests                        []struct {
				TcID                            int `json:"tcId"`
				Comment, Msg, Ct, Label, Result string
			}
		}
	}
	wycheproof(t, name, &file)
	plaintext := []byte("a secret that KMS decrypted")
	contentKeys := 0
	for _, group := range file.TestGroups {
		parsed, err := x509.ParsePKCS8PrivateKey(unhex(t, group.PrivateKeyPkcs8))
		if err != nil {
			t.Fatal(err)
		}
		key := parsed.(*rsa.PrivateKey)
		for _, c := range group.Tests {
			message := unhex(t, c.Msg)
			good := c.Result == "valid" && c.Label == "" && len(message) == contentKeySize &&
				group.Sha == "SHA-256" && group.MgfSha == "SHA-256"
			if len(message) != contentKeySize {
				message = make([]byte, contentKeySize)
			} else {
				contentKeys++
			}
			encryptedKey := unhex(t, c.Ct)
			got, err := cms.Open(seal(t, &key.PublicKey, message, encryptedKey, plaintext), key)
			var refused *cms.Error
			switch {
			case err == nil:
				n.opens++
				if !good || !bytes.Equal(got, plaintext) {
					t.Errorf("test %d (%s): opens to %q", c.TcID, c.Comment, got)
				}
			case good:
				t.Errorf("test %d (%s): %v", c.TcID, c.Comment, err)
			case !errors.As(err, &refused) || got != nil:
				t.Errorf("test %d (%s): %v beside %d bytes", c.TcID, c.Comment, err, len(got))
			case len(encryptedKey) != key.Size():
				n.otherSize++
				if refused.Reason != cms.ReasonEncryptedKeySize {
					t.Errorf("test %d (%s): %v", c.TcID, c.Comment, err)
				}
			default:
				n.doesntDecrypt++
				if uniform := (cms.Error{Op: "Open", Reason: cms.ReasonDecrypt, Offset: -1, Detail: "the envelope does not decrypt"}); *refused != uniform {
					t.Errorf("test %d (%s): not the uniform error: %v", c.TcID, c.Comment, err)
				}
			}
		}
	}
	if contentKeys != 1 {
		t.Errorf("%d messages of %d bytes, not 1", contentKeys, contentKeySize)
	}
	return n
}
