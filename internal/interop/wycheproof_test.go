package interop

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyvouch/keyvouch/internal/es384"
)

// wycheproof reads one of Wycheproof's files.
func wycheproof(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moduleDir(t, "github.com/c2sp/wycheproof"), "testvectors_v1", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWycheproofES384 takes signatures in both forms, of documents and of
// certificates, through the code that verifies them.
func TestWycheproofES384(t *testing.T) {
	for _, form := range []struct {
		file   string
		verify func(point, message, signature []byte) bool
	}{
		{"ecdsa_secp384r1_sha384_p1363_test.json", func(point, message, signature []byte) bool {
			return es384.Verifier{Point: point}.Verify(message, signature) == nil
		}},
		{"ecdsa_secp384r1_sha384_test.json", es384.VerifyDER},
	} {
		t.Run(form.file, func(t *testing.T) {
			var file struct {
				TestGroups []struct {
					PublicKeyDer string `json:"publicKeyDer"`
					Tests        []struct {
						TcID             int `json:"tcId"`
						Comment          string
						Msg, Sig, Result string
					}
				}
			}
			wycheproof(t, form.file, &file)
			valid, invalid := 0, 0
			for _, group := range file.TestGroups {
				parsed, err := x509.ParsePKIXPublicKey(unhex(t, group.PublicKeyDer))
				if err != nil {
					t.Fatal(err)
				}
				point, err := parsed.(*ecdsa.PublicKey).Bytes()
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range group.Tests {
					accepted := form.verify(point, unhex(t, c.Msg), unhex(t, c.Sig))
					if accepted != (c.Result == "valid") {
						t.Errorf("test %d (%s): accepted %v, want %s", c.TcID, c.Comment, accepted, c.Result)
					}
					if accepted {
						valid++
					} else {
						invalid++
					}
				}
			}
			if valid < 50 || invalid < 50 {
				t.Errorf("only %d valid and %d invalid signatures", valid, invalid)
			}
			t.Logf("%d valid and %d invalid signatures", valid, invalid)
		})
	}
}
