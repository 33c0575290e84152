package interop

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

// TestJavaScriptErrors holds kmstest's errors to be what the AWS SDK for
// JavaScript takes for KMS's.
func TestJavaScriptErrors(t *testing.T) {
	js, server, device := javaScriptScene(t)
	key := createKey(t, server, kmstest.KeyOptions{})
	otherKey := createKey(t, server, kmstest.KeyOptions{})
	agreement := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP256})
	attested := createKey(t, server, kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, device.PCR(0)))})
	disabled := createKey(t, server, kmstest.KeyOptions{})
	if err := server.SetKeyEnabled(disabled, false); err != nil {
		t.Fatal(err)
	}
	encrypt := func(key string) *blob {
		t.Helper()
		return js.do("Encrypt", object{"KeyId": key, "Plaintext": blob{[]byte("a secret")}, "EncryptionContext": binding}).CiphertextBlob
	}
	sealed, sealedAttested := encrypt(key), encrypt(attested)
	damaged := &blob{append([]byte(nil), sealed.Bytes...)}
	damaged.Bytes[len(damaged.Bytes)-1] ^= 1
	recipient := object{"AttestationDocument": blob{[]byte("no document")}, "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
	credentials, err := server.Config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	for _, c := range []struct {
		what, want, operation string
		input, client         object
	}{
		{what: "no document", want: "AccessDeniedException", operation: "Decrypt",
			input: object{"CiphertextBlob": sealedAttested, "EncryptionContext": binding}},
		{what: "a bad document", want: "ValidationException", operation: "Decrypt",
			input: object{"CiphertextBlob": sealedAttested, "EncryptionContext": binding, "Recipient": recipient}},
		{what: "unknown key", want: "NotFoundException", operation: "DescribeKey",
			input: object{"KeyId": key[:len(key)-4] + "0000"}},
		{what: "unknown alias", want: "NotFoundException", operation: "DescribeKey",
			input: object{"KeyId": "alias/none"}},
		{what: "another encryption context", want: "InvalidCiphertextException", operation: "Decrypt",
			input: object{"CiphertextBlob": sealed, "EncryptionContext": object{"tenant": "8"}}},
		{what: "a damaged ciphertext", want: "InvalidCiphertextException", operation: "Decrypt",
			input: object{"CiphertextBlob": damaged, "EncryptionContext": binding}},
		{what: "another key's ciphertext", want: "IncorrectKeyException", operation: "Decrypt",
			input: object{"CiphertextBlob": sealed, "EncryptionContext": binding, "KeyId": otherKey}},
		{what: "more bytes than KMS makes", want: "ValidationException", operation: "GenerateRandom",
			input: object{"NumberOfBytes": 1025}},
		{what: "neither size nor spec", want: "ValidationException", operation: "GenerateDataKey",
			input: object{"KeyId": key}},
		{what: "a key that is disabled", want: "DisabledException", operation: "GenerateDataKey",
			input: object{"KeyId": disabled, "KeySpec": "AES_256"}},
		{what: "a key of another usage", want: "InvalidKeyUsageException", operation: "Encrypt",
			input: object{"KeyId": agreement, "Plaintext": blob{[]byte("a secret")}}},
		{what: "a dry run", want: "DryRunOperationException", operation: "GenerateDataKey",
			input: object{"KeyId": key, "KeySpec": "AES_256", "DryRun": true}},
		{what: "an operation that kmstest hasn't", want: "UnknownOperationException", operation: "ListKeys",
			input: object{}},
		{what: "another's credentials", want: "UnrecognizedClientException", operation: "GenerateRandom",
			input:  object{"NumberOfBytes": 1},
			client: object{"credentials": object{"accessKeyId": "AKIAIOSFODNN7EXAMPLE", "secretAccessKey": "x"}}},
		{what: "another secret", want: "InvalidSignatureException", operation: "GenerateRandom",
			input: object{"NumberOfBytes": 1},
			client: object{"credentials": object{"accessKeyId": credentials.AccessKeyID, "secretAccessKey": "x",
				"sessionToken": credentials.SessionToken}}},
	} {
		js.fail(c.what, c.want, c.operation, c.input, c.client)
	}
}
