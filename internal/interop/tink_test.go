package interop

import (
	"bytes"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// TestTink uses the client in Tink, to encrypt a value itself, and to encrypt
// the keys of a KMS envelope AEAD.
func TestTink(t *testing.T) {
	direct := func(remote tink.AEAD) (tink.AEAD, error) { return remote, nil }
	envelope := func(remote tink.AEAD) (tink.AEAD, error) {
		return aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote), nil
	}
	for name, wrap := range map[string]func(tink.AEAD) (tink.AEAD, error){"AEAD": direct, "envelope AEAD": envelope} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			primitive := func(client *kms.Client) (tink.AEAD, error) {
				uri := "aws-kms://" + s.key
				c, err := awskms.NewClientWithOptions(t.Context(), uri, awskms.WithKMS(client))
				if err != nil {
					return nil, err
				}
				remote, err := c.GetAEAD(uri)
				if err != nil {
					return nil, err
				}
				return wrap(remote)
			}
			outside, err := primitive(s.outside())
			if err != nil {
				t.Fatal(err)
			}
			want, tenant := bytes.Repeat([]byte("a secret "), 10), []byte("tenant 7")
			sealed, err := outside.Encrypt(want, tenant)
			if err != nil {
				t.Fatal(err)
			}
			s.expect(t, "Encrypt")
			s.decryptInsideOnly(t, want, func(client *kms.Client) ([]byte, error) {
				p, err := primitive(client)
				if err != nil {
					return nil, err
				}
				return p.Decrypt(sealed, tenant)
			})
			inside, err := primitive(s.inside(t, enclaveImage))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := inside.Decrypt(sealed, []byte("tenant 8")); err == nil || len(got) > 0 {
				t.Errorf("other associated data: %q, %v", got, err)
			}
		})
	}
}
