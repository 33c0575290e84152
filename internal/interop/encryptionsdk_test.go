package interop

import (
	"bytes"
	"testing"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestEncryptionSDK uses the client in a keyring of the AWS Encryption SDK.
func TestEncryptionSDK(t *testing.T) {
	// The keyring takes the data key of a message from kms:GenerateDataKey, in
	// the clear, so whoever encrypts outside must be allowed that.
	s := newScene(t, "kms:GenerateDataKey")
	providers, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sdk, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	keyring := func(client *kms.Client) (mpltypes.IKeyring, error) {
		return providers.CreateAwsKmsKeyring(t.Context(), mpltypes.CreateAwsKmsKeyringInput{KmsClient: client, KmsKeyId: s.key})
	}
	want, binding := bytes.Repeat([]byte("a secret "), 1000), map[string]string{"tenant": "7"}
	for name, client := range map[string]*kms.Client{"outside": s.outside(), "inside": s.inside(t, enclaveImage)} {
		t.Run("encrypted "+name, func(t *testing.T) {
			k, err := keyring(client)
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := sdk.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: want, EncryptionContext: binding, Keyring: k})
			if err != nil {
				t.Fatal(err)
			}
			if name == "inside" {
				s.expect(t, "attested GenerateDataKey")
			} else {
				s.expect(t, "GenerateDataKey")
			}
			s.decryptInsideOnly(t, want, func(client *kms.Client) ([]byte, error) {
				k, err := keyring(client)
				if err != nil {
					return nil, err
				}
				out, err := sdk.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: sealed.Ciphertext, EncryptionContext: binding, Keyring: k})
				if err != nil {
					return nil, err
				}
				return out.Plaintext, nil
			})
		})
	}
}
