package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	keystore "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographykeystoresmithygenerated"
	keystoretypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographykeystoresmithygeneratedtypes"
	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestHierarchicalKeyring uses the client in the Encryption SDK's hierarchical
// keyring, the only part of it that caches in Go: once it has a branch key, it
// asks KMS no more until the TTL is over. The branch key is in DynamoDB, and
// both to encrypt and to decrypt take kms:Decrypt, so that outside there is
// neither.
func TestHierarchicalKeyring(t *testing.T) {
	s := newScene(t)
	const branch, store = "orders", "orders-keys"
	table := newBranchKeyTable(t, s, branch, store)
	s.expect(t, "Encrypt", "Encrypt")
	providers, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	sdk, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	keyring := func(client *kms.Client) mpltypes.IKeyring {
		keys, err := keystore.NewClient(keystoretypes.KeyStoreConfig{
			DdbTableName:        "branch-keys",
			LogicalKeyStoreName: store,
			KmsConfiguration:    &keystoretypes.KMSConfigurationMemberkmsKeyArn{Value: s.key},
			DdbClient:           table,
			KmsClient:           client,
		})
		if err != nil {
			t.Fatal(err)
		}
		k, err := providers.CreateAwsKmsHierarchicalKeyring(t.Context(), mpltypes.CreateAwsKmsHierarchicalKeyringInput{
			KeyStore:    keys,
			BranchKeyId: aws.String(branch),
			TtlSeconds:  3600,
		})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}

	inside := keyring(s.inside(t, enclaveImage))
	var messages [][]byte
	name := func(i int) map[string]string { return map[string]string{"name": fmt.Sprintf("order-%d", i)} }
	for i := range 50 {
		out, err := sdk.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: []byte{byte(i)}, EncryptionContext: name(i), Keyring: inside})
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, out.Ciphertext)
	}
	s.expect(t, "attested Decrypt") // of the active branch key
	for i, m := range messages {
		out, err := sdk.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: m, EncryptionContext: name(i), Keyring: inside})
		if err != nil || !bytes.Equal(out.Plaintext, []byte{byte(i)}) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	s.expect(t, "attested Decrypt") // of its version, in the messages

	for _, denied := range []struct {
		who     string
		client  *kms.Client
		request string
	}{
		{"outside", s.outside(), "Decrypt: AccessDeniedException"},
		{"another image", s.inside(t, []byte("another image")), "attested Decrypt: AccessDeniedException"},
	} {
		k := keyring(denied.client)
		if _, err := sdk.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: []byte("an order"), Keyring: k}); err == nil {
			t.Errorf("%s: encrypted", denied.who)
		}
		if _, err := sdk.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: messages[0], Keyring: k}); err == nil {
			t.Errorf("%s: decrypted", denied.who)
		}
		s.expect(t, denied.request, denied.request)
	}
}

// newBranchKeyTable is a DynamoDB with a branch key, encrypted outside. The key
// store's own CreateKey has KMS make it, by GenerateDataKeyWithoutPlaintext and
// kms:ReEncrypt, which kmstest doesn't have; what it stores is the same.
func newBranchKeyTable(t *testing.T, s *scene, branch, store string) *dynamodb.Client {
	t.Helper()
	branchKey := make([]byte, 32)
	if _, err := rand.Read(branchKey); err != nil {
		t.Fatal(err)
	}
	const version = "branch:version:8d1c6b0e-6a43-4b3a-9a4e-0f7c9b1c2d3e"
	items := map[string]map[string]map[string]any{} // by sort key, attribute, type
	for kind, more := range map[string]map[string]string{version: {}, "branch:ACTIVE": {"version": version}} {
		// All other attributes and the store's name are authenticated by KMS.
		attributes := map[string]string{"branch-key-id": branch, "type": kind, "create-time": "2026-01-02T03:04:05.000000Z", "hierarchy-version": "1", "kms-arn": s.key}
		maps.Copy(attributes, more)
		item := map[string]map[string]any{}
		for k, v := range attributes {
			item[k] = map[string]any{"S": v}
		}
		item["hierarchy-version"] = map[string]any{"N": "1"}
		attributes["tablename"] = store
		out, err := s.outside().Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(s.key), Plaintext: branchKey, EncryptionContext: attributes})
		if err != nil {
			t.Fatal(err)
		}
		item["enc"] = map[string]any{"B": out.CiphertextBlob}
		items[kind] = item
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Key map[string]struct{ S string }
		}
		if target := r.Header.Get("X-Amz-Target"); target != "DynamoDB_20120810.GetItem" || json.NewDecoder(r.Body).Decode(&in) != nil || in.Key["branch-key-id"].S != branch {
			t.Errorf("DynamoDB: %s %v", target, in)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_ = json.NewEncoder(w).Encode(map[string]any{"Item": items[in.Key["type"].S]})
	}))
	t.Cleanup(server.Close)
	return dynamodb.NewFromConfig(s.server.Config(), func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(server.URL) })
}
