package interop

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// javaScriptScene is a KMS that trusts a software NSM, and a JavaScript client
// of it.
func javaScriptScene(t *testing.T) (*javaScript, *kmstest.Server, *nsmtest.NSM) {
	t.Helper()
	device, err := nsmtest.New(nsmtest.Options{Image: enclaveImage})
	if err != nil {
		t.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root(), Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return startJavaScript(t, server), server, device
}

func createKey(t *testing.T, server *kmstest.Server, o kmstest.KeyOptions) (arn string) {
	t.Helper()
	arn, err := server.CreateKey(o)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

var binding = object{"tenant": "7", "purpose": "größe \U0001f511"}

// TestJavaScript has the AWS SDK for JavaScript make each operation of kmstest,
// without a recipient.
func TestJavaScript(t *testing.T) {
	js, server, _ := javaScriptScene(t)
	key := createKey(t, server, kmstest.KeyOptions{})

	plaintext := []byte("a secret")
	sealed := js.do("Encrypt", object{"KeyId": key, "Plaintext": blob{plaintext}, "EncryptionContext": binding})
	if sealed.KeyID != key || sealed.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" {
		t.Errorf("Encrypt: with %s, %s", sealed.KeyID, sealed.EncryptionAlgorithm)
	}
	decrypt := func(operation string, sealed *blob, want []byte) {
		t.Helper()
		out := js.do("Decrypt", object{"CiphertextBlob": sealed, "EncryptionContext": binding})
		if out.KeyID != key || out.EncryptionAlgorithm != "SYMMETRIC_DEFAULT" || out.Plaintext == nil || !bytes.Equal(out.Plaintext.Bytes, want) {
			t.Errorf("Decrypt of what %s made: %+v", operation, out)
		}
	}
	decrypt("Encrypt", sealed.CiphertextBlob, plaintext)

	dataKey := js.do("GenerateDataKey", object{"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": binding})
	if dataKey.KeyID != key || len(dataKey.Plaintext.Bytes) != 32 {
		t.Errorf("GenerateDataKey: %+v", dataKey)
	}
	decrypt("GenerateDataKey", dataKey.CiphertextBlob, dataKey.Plaintext.Bytes)

	without := js.do("GenerateDataKeyWithoutPlaintext", object{"KeyId": key, "NumberOfBytes": 24})
	if without.KeyID != key || without.Plaintext != nil {
		t.Errorf("GenerateDataKeyWithoutPlaintext: %+v", without)
	}
	if out := js.do("Decrypt", object{"CiphertextBlob": without.CiphertextBlob, "KeyId": key}); len(out.Plaintext.Bytes) != 24 {
		t.Errorf("GenerateDataKeyWithoutPlaintext: a key of %d bytes", len(out.Plaintext.Bytes))
	}

	pair := js.do("GenerateDataKeyPair", object{"KeyId": key, "KeyPairSpec": "ECC_NIST_P384", "EncryptionContext": binding})
	checkKeyPair(t, pair, pair.PrivateKeyPlaintext.Bytes)
	decrypt("GenerateDataKeyPair", pair.PrivateKeyCiphertextBlob, pair.PrivateKeyPlaintext.Bytes)

	if out := js.do("GenerateRandom", object{"NumberOfBytes": 24}); len(out.Plaintext.Bytes) != 24 {
		t.Errorf("GenerateRandom: %d bytes", len(out.Plaintext.Bytes))
	}

	described := js.do("DescribeKey", object{"KeyId": key}).KeyMetadata
	if described.Arn != key || described.KeyUsage != "ENCRYPT_DECRYPT" || described.KeySpec != "SYMMETRIC_DEFAULT" ||
		described.KeyState != "Enabled" || !described.Enabled || time.Since(described.CreationDate).Abs() > time.Hour {
		t.Errorf("DescribeKey: %+v", *described)
	}
}

// TestJavaScriptKeyAgreement has it make the operations that are with a key on
// a curve.
func TestJavaScriptKeyAgreement(t *testing.T) {
	js, server, _ := javaScriptScene(t)
	key := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP256})

	public := js.do("GetPublicKey", object{"KeyId": key})
	if public.KeyID != key || public.KeySpec != "ECC_NIST_P256" || public.KeyUsage != "KEY_AGREEMENT" ||
		len(public.KeyAgreementAlgorithms) != 1 || public.KeyAgreementAlgorithms[0] != "ECDH" {
		t.Errorf("GetPublicKey: %+v", public)
	}
	peer, theirs := agree(t, public)
	out := js.do("DeriveSharedSecret", object{"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer})
	if out.KeyID != key || out.KeyAgreementAlgorithm != "ECDH" || !bytes.Equal(out.SharedSecret.Bytes, theirs) {
		t.Errorf("DeriveSharedSecret: %+v", out)
	}
}

// TestJavaScriptRecipient has it make the five operations that take a
// recipient, with a document of this process, which opens the envelopes.
func TestJavaScriptRecipient(t *testing.T) {
	js, server, device := javaScriptScene(t)
	policy := kmstest.AllowAttested(kmstest.PCREquals(0, device.PCR(0)))
	key := createKey(t, server, kmstest.KeyOptions{Policy: policy})
	agreement := createKey(t, server, kmstest.KeyOptions{Policy: policy, Spec: types.KeySpecEccNistP256})

	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer session.Close()
	document, err := session.Attest(t.Context(), nsm.AttestationRequest{PublicKey: spki})
	if err != nil {
		t.Fatal(err)
	}
	// do returns the output, in which nothing is in the clear, and what its
	// envelope holds.
	do := func(operation string, input object) (javaScriptOutput, []byte) {
		t.Helper()
		input["Recipient"] = object{"AttestationDocument": blob{document}, "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
		out := js.do(operation, input)
		if out.CiphertextForRecipient == nil || out.Plaintext != nil || out.PrivateKeyPlaintext != nil || out.SharedSecret != nil {
			t.Fatalf("%s: %+v", operation, out)
		}
		opened, err := cms.Open(out.CiphertextForRecipient.Bytes, private)
		if err != nil {
			t.Fatalf("%s: %v", operation, err)
		}
		return out, opened
	}
	decrypt := func(operation string, sealed *blob, want []byte) {
		t.Helper()
		out, opened := do("Decrypt", object{"CiphertextBlob": sealed, "EncryptionContext": binding})
		if out.KeyID != key || !bytes.Equal(opened, want) {
			t.Errorf("Decrypt of what %s made: %+v", operation, out)
		}
	}

	plaintext := []byte("a secret")
	sealed := js.do("Encrypt", object{"KeyId": key, "Plaintext": blob{plaintext}, "EncryptionContext": binding})
	decrypt("Encrypt", sealed.CiphertextBlob, plaintext)

	dataKey, opened := do("GenerateDataKey", object{"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": binding})
	if len(opened) != 32 {
		t.Errorf("GenerateDataKey: %d bytes", len(opened))
	}
	decrypt("GenerateDataKey", dataKey.CiphertextBlob, opened)

	pair, opened := do("GenerateDataKeyPair", object{"KeyId": key, "KeyPairSpec": "ECC_NIST_P384", "EncryptionContext": binding})
	checkKeyPair(t, pair, opened)
	decrypt("GenerateDataKeyPair", pair.PrivateKeyCiphertextBlob, opened)

	if _, opened := do("GenerateRandom", object{"NumberOfBytes": 24}); len(opened) != 24 {
		t.Errorf("GenerateRandom: %d bytes", len(opened))
	}

	peer, theirs := agree(t, js.do("GetPublicKey", object{"KeyId": agreement}))
	if _, opened := do("DeriveSharedSecret", object{"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer}); !bytes.Equal(opened, theirs) {
		t.Error("DeriveSharedSecret: another secret")
	}
}

// checkKeyPair checks that a pair's halves belong together.
func checkKeyPair(t *testing.T, pair javaScriptOutput, private []byte) {
	t.Helper()
	parsed, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(pair.PublicKey.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if key, ok := parsed.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(public) {
		t.Errorf("a private key of type %T, not the public one's", parsed)
	}
}

// agree makes a key and returns its public half, and the secret that it and
// the public key of KMS make.
func agree(t *testing.T, public javaScriptOutput) (peer blob, secret []byte) {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(public.PublicKey.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := parsed.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if secret, err = ours.ECDH(theirs); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(ours.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return blob{spki}, secret
}
