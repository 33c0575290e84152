package interop

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/awskms"

	"github.com/keyvouch/keyvouch/kmsclient"
)

// TestGoCloudSecrets uses the client in a gocloud.dev secrets.Keeper.
func TestGoCloudSecrets(t *testing.T) {
	s := newScene(t)
	keeper := func(client *kms.Client, tenant string) *secrets.Keeper {
		k := awskms.OpenKeeper(client, s.key, &awskms.KeeperOptions{EncryptionContext: map[string]string{"tenant": tenant}})
		t.Cleanup(func() { _ = k.Close() })
		return k
	}
	want := []byte("a secret")
	sealed, err := keeper(s.outside(), "7").Encrypt(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, "Encrypt")
	s.decryptInsideOnly(t, want, func(client *kms.Client) ([]byte, error) {
		return keeper(client, "7").Decrypt(t.Context(), sealed)
	})

	// The keeper's own codes and its As see through our errors.
	inside := keeper(s.inside(t, enclaveImage), "8")
	_, err = inside.Decrypt(t.Context(), sealed)
	if code := gcerrors.Code(err); code != gcerrors.InvalidArgument {
		t.Errorf("another encryption context: %v: %v", code, err)
	}
	var refused *kmsclient.Error
	if !inside.ErrorAs(err, &refused) || refused.Reason != kmsclient.ReasonKMS {
		t.Errorf("another encryption context: no *kmsclient.Error in %v", err)
	}
}
