package kmstest_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

var orderContext = map[string]string{"order": "17", "line": "3"}

func TestEncryptDecrypt(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{Alias: "alias/orders"})
	client := newClient(server)
	id := arn[strings.LastIndex(arn, "/")+1:]
	aliasARN := strings.Replace(arn, "key/"+id, "alias/orders", 1)
	for _, plaintext := range [][]byte{{0}, bytes.Repeat([]byte("x"), 4096)} {
		for _, name := range []string{arn, id, "alias/orders", aliasARN} {
			sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &name, Plaintext: plaintext, EncryptionContext: orderContext})
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(sealed.KeyId) != arn || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
				t.Errorf("Encrypt answered %+v", sealed)
			}
			if bytes.Contains(sealed.CiphertextBlob, []byte("xxxx")) || len(sealed.CiphertextBlob) > 6144 {
				t.Errorf("blob of %d bytes shows the plaintext or is too long", len(sealed.CiphertextBlob))
			}
			for _, keyID := range []*string{nil, &name} {
				opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, KeyId: keyID, EncryptionContext: maps.Clone(orderContext)})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(opened.Plaintext, plaintext) || aws.ToString(opened.KeyId) != arn || opened.CiphertextForRecipient != nil || len(aws.ToString(opened.KeyMaterialId)) != 64 {
					t.Errorf("Decrypt answered key %s, %d bytes", aws.ToString(opened.KeyId), len(opened.Plaintext))
				}
			}
		}
	}
	if got := last(t, server); got.Operation != "Decrypt" || got.KeyID != aliasARN || got.Recipient || got.ErrorCode != "" {
		t.Errorf("recorded %+v", got)
	}
}

func TestDecryptRefusals(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn, other := createKey(t, server, kmstest.KeyOptions{}), createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret"), EncryptionContext: orderContext})
	if err != nil {
		t.Fatal(err)
	}
	blob := sealed.CiphertextBlob
	missing := strings.Replace(arn, arn[len(arn)-4:], "0000", 1)

	foreign := newServer(t, kmstest.Options{})
	foreignKey := createKey(t, foreign, kmstest.KeyOptions{})
	foreignSealed, err := newClient(foreign).Encrypt(t.Context(), &kms.EncryptInput{KeyId: &foreignKey, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}

	var (
		invalidCiphertext *types.InvalidCiphertextException
		incorrectKey      *types.IncorrectKeyException
		notFound          *types.NotFoundException
		keyUsage          *types.InvalidKeyUsageException
	)
	for name, test := range map[string]struct {
		input kms.DecryptInput
		as    any // nil: not modelled, code tells
		code  string
		text  string
	}{
		"no context":       {kms.DecryptInput{CiphertextBlob: blob}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"other context":    {kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"order": "17", "line": "4"}}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"merged context":   {kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"line": "3order17"}}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"other key":        {kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: orderContext, KeyId: &other}, &incorrectKey, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
		"missing key":      {kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: orderContext, KeyId: &missing}, &notFound, "NotFoundException", "Key '" + missing + "' does not exist"},
		"missing alias":    {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String("alias/none")}, &notFound, "NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."},
		"not a key":        {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String("fake-key-id")}, &notFound, "NotFoundException", "Invalid keyId 'fake-key-id'"},
		"other region":     {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(strings.Replace(arn, "us-east-1", "eu-west-1", 1))}, &notFound, "NotFoundException", "Invalid arn eu-west-1"},
		"other account":    {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(strings.Replace(arn, "111122223333", "444455556666", 1))}, &notFound, "NotFoundException", "does not exist"},
		"ARN without key/": {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(strings.Replace(arn, ":key/", ":", 1))}, &notFound, "NotFoundException", "Invalid arn arn:aws:kms:"},
		"ARN of key/alias": {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(arn[:strings.Index(arn, ":key/")] + ":key/alias/orders")}, &notFound, "NotFoundException", "Invalid arn arn:aws:kms:"},
		"ARN of no ID":     {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(arn[:strings.Index(arn, ":key/")] + ":key/fake-key-id")}, &notFound, "NotFoundException", "Invalid arn arn:aws:kms:"},
		"ARN of a grant":   {kms.DecryptInput{CiphertextBlob: blob, KeyId: aws.String(strings.Replace(arn, ":key/", ":grant/", 1))}, &notFound, "NotFoundException", "Invalid arn arn:aws:kms:"},
		"truncated":        {kms.DecryptInput{CiphertextBlob: blob[:len(blob)-1], EncryptionContext: orderContext}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"changed":          {kms.DecryptInput{CiphertextBlob: append(bytes.Clone(blob[:len(blob)-1]), blob[len(blob)-1]^1), EncryptionContext: orderContext}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"not a blob":       {kms.DecryptInput{CiphertextBlob: []byte("plaintext")}, &invalidCiphertext, "InvalidCiphertextException", ""},
		"another server's": {kms.DecryptInput{CiphertextBlob: foreignSealed.CiphertextBlob}, nil, "AccessDeniedException", "The ciphertext refers to a customer master key that does not exist"},
		"no blob":          {kms.DecryptInput{}, nil, "ValidationException", "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
		"empty blob":       {kms.DecryptInput{CiphertextBlob: []byte{}}, nil, "ValidationException", "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"long blob":        {kms.DecryptInput{CiphertextBlob: make([]byte, 6145)}, nil, "ValidationException", "1 validation error detected: Value at 'ciphertextBlob' failed to satisfy constraint: Member must have length less than or equal to 6144"},
		"algorithm":        {kms.DecryptInput{CiphertextBlob: blob, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256}, &keyUsage, "InvalidKeyUsageException", "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."},
		"no algorithm":     {kms.DecryptInput{CiphertextBlob: blob, EncryptionAlgorithm: "ROT13"}, nil, "ValidationException", "Value 'ROT13' at 'encryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [SYMMETRIC_DEFAULT, "},
		"huge context":     {kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"a": strings.Repeat("b", 8192)}}, nil, "ValidationException", "Encryption context is larger than 8192 bytes."},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := client.Decrypt(t.Context(), &test.input)
			if out != nil {
				t.Fatal("the request succeeded")
			}
			wantCode(t, err, test.code, test.text)
			if test.as != nil && !errors.As(err, test.as) {
				t.Errorf("error is not a %T", test.as)
			}
			if got := last(t, server); got.ErrorCode != test.code || got.Operation != "Decrypt" {
				t.Errorf("recorded %+v", got)
			}
		})
	}
}

// The context must be the same to the letter; the order of its pairs is not part
// of it.
func TestEncryptionContextIsExact(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	largest := map[string]string{"a": strings.Repeat("b", 8191)}
	for _, sealedWith := range []map[string]string{nil, {"Tenant": "Seven"}, {"": ""}, {"tenant": ""}, {"tenänt": "sïeben"}, orderContext, largest} {
		sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret"), EncryptionContext: sealedWith})
		if err != nil {
			t.Fatal(err)
		}
		for _, context := range []map[string]string{
			{}, {"Tenant": "Seven"}, {"tenant": "Seven"}, {"Tenant": "seven"}, {"Tenant": "Seven "}, {"Tenant": "Seven", "more": ""},
			{"": ""}, {"tenant": ""}, {"tenänt": "sïeben"}, {"tena\u0308nt": "sïeben"}, orderContext, largest,
		} {
			_, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context})
			if same := maps.Equal(context, sealedWith); same && err != nil {
				t.Errorf("%.100v: %v", context, err)
			} else if !same {
				wantCode(t, err, "InvalidCiphertextException", "")
			}
			if got := last(t, server); !maps.Equal(got.EncryptionContext, context) || got.KeyARN != arn || got.KeyID != "" {
				t.Errorf("recorded %+.100v", got)
			}
		}
	}
}

func TestGrantTokensAreIgnored(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, [48]byte{1}))})
	client := newClient(server)
	encrypt := func(tokens []string) error {
		_, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("a"), GrantTokens: tokens})
		return err
	}
	ten := slices.Repeat([]string{strings.Repeat("t", 8192)}, 10)
	for _, tokens := range [][]string{nil, {}, {"t"}, ten} {
		if err := encrypt(tokens); err != nil {
			t.Errorf("%d tokens: %v", len(tokens), err)
		}
		if got := last(t, server); got.GrantTokens != len(tokens) {
			t.Errorf("%d tokens: recorded %+v", len(tokens), got)
		}
	}
	wantCode(t, encrypt(append(ten, "t")), "ValidationException", "Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10")
	wantCode(t, encrypt([]string{""}), "ValidationException", "Member must have length greater than or equal to 1]")
	wantCode(t, encrypt([]string{strings.Repeat("t", 8193)}), "ValidationException", "[Member must have length less than or equal to 8192,")

	// They allow nothing that the policy does not.
	_, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", GrantTokens: []string{"t"}})
	wantCode(t, err, "AccessDeniedException", "because no resource-based policy")

	for _, tokens := range []string{`"t"`, `[1]`, `{}`} {
		response := send(t, server, "DescribeKey", `{"KeyId":"`+arn+`","GrantTokens":`+tokens+`}`)
		response.Body.Close()
		if got := last(t, server); got.ErrorCode != "SerializationException" {
			t.Errorf("%s: recorded %+v", tokens, got)
		}
	}
}

// An alias that is pointed at another key: requests by the alias find that, and
// a ciphertext of the first key is no longer the alias's.
func TestSetAlias(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	first, second := createKey(t, server, kmstest.KeyOptions{Alias: "alias/orders"}), createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	alias := aws.String("alias/orders")
	aliasARN := aws.String(first[:strings.Index(first, ":key/")+1] + "alias/orders")
	seal := func(name *string) *kms.EncryptOutput {
		t.Helper()
		sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: name, Plaintext: []byte("secret")})
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	old := seal(aliasARN)
	if aws.ToString(old.KeyId) != first {
		t.Errorf("answered by %s", aws.ToString(old.KeyId))
	}
	if err := server.SetAlias("alias/orders", second); err != nil {
		t.Fatal(err)
	}
	for _, name := range []*string{alias, aliasARN} {
		if got := aws.ToString(seal(name).KeyId); got != second {
			t.Errorf("%s: answered by %s", *name, got)
		}
		if got := last(t, server); got.KeyID != *name || got.KeyARN != second {
			t.Errorf("recorded %+v", got)
		}
		_, err := client.Decrypt(t.Context(), &kms.DecryptInput{KeyId: name, CiphertextBlob: old.CiphertextBlob})
		wantCode(t, err, "IncorrectKeyException", "does not identify a CMK")
	}
	if _, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: old.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	if err := server.SetAlias("alias/more", "alias/orders"); err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(seal(aws.String("alias/more")).KeyId); got != second {
		t.Errorf("answered by %s", got)
	}
	for name, test := range map[string]struct {
		alias, keyID string
		reason       kmstest.Reason
	}{
		"form":    {"orders", first, kmstest.ReasonInvalidOptions},
		"of AWS":  {"alias/aws/ebs", first, kmstest.ReasonInvalidOptions},
		"no key":  {"alias/orders", "alias/none", kmstest.ReasonUnknownKey},
		"no name": {"alias/orders", "", kmstest.ReasonUnknownKey},
	} {
		var e *kmstest.Error
		if err := server.SetAlias(test.alias, test.keyID); !errors.As(err, &e) || e.Reason != test.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataKey(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	for name, test := range map[string]struct {
		input kms.GenerateDataKeyInput
		size  int
		text  string
	}{
		"AES_256":    {input: kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256}, size: 32},
		"AES_128":    {input: kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128}, size: 16},
		"1 byte":     {input: kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1)}, size: 1},
		"1024 bytes": {input: kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1024)}, size: 1024},
		"0 bytes":    {input: kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(0)}, text: "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		"1025 bytes": {input: kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(1025)}, text: "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		"neither":    {text: "Please specify either number of bytes or key spec."},
		"both":       {input: kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128, NumberOfBytes: aws.Int32(16)}, text: "Please specify either number of bytes or key spec."},
		"other spec": {input: kms.GenerateDataKeyInput{KeySpec: "AES-256"}, text: "Value 'AES-256' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
	} {
		t.Run(name, func(t *testing.T) {
			test.input.KeyId, test.input.EncryptionContext = &arn, orderContext
			out, err := client.GenerateDataKey(t.Context(), &test.input)
			if test.text != "" {
				wantCode(t, err, "ValidationException", test.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Plaintext) != test.size || out.CiphertextForRecipient != nil || aws.ToString(out.KeyId) != arn {
				t.Errorf("answer is %d bytes", len(out.Plaintext))
			}
			opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: orderContext})
			if err != nil || !bytes.Equal(opened.Plaintext, out.Plaintext) {
				t.Errorf("the data key does not decrypt to itself: %v", err)
			}
		})
	}
	without, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: without.CiphertextBlob}); err != nil || len(opened.Plaintext) != 32 {
		t.Errorf("the data key without plaintext: %v", err)
	}
}

func TestGenerateRandom(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	client := newClient(server)
	for _, size := range []int32{1, 1024} {
		out, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: &size})
		if err != nil || len(out.Plaintext) != int(size) || out.CiphertextForRecipient != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for text, input := range map[string]*kms.GenerateRandomInput{
		"NumberOfBytes is required.":                {},
		"Member must have value greater than":       {NumberOfBytes: aws.Int32(0)},
		"Member must have value less than or equal": {NumberOfBytes: aws.Int32(1025)},
	} {
		_, err := client.GenerateRandom(t.Context(), input)
		wantCode(t, err, "ValidationException", text)
	}
	_, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), CustomKeyStoreId: aws.String("cks-1234567890abcdef0")})
	wantCode(t, err, "UnsupportedOperationException", "custom key stores")
}

func TestDataKeyPair(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	bits := map[types.DataKeyPairSpec]int{
		types.DataKeyPairSpecRsa2048:             2048,
		types.DataKeyPairSpecRsa3072:             3072,
		types.DataKeyPairSpecEccNistP256:         256,
		types.DataKeyPairSpecEccNistP384:         384,
		types.DataKeyPairSpecEccNistP521:         521,
		types.DataKeyPairSpecEccNistEdwards25519: 255,
	}
	if !testing.Short() {
		bits[types.DataKeyPairSpecRsa4096] = 4096
	}
	for spec, want := range bits {
		t.Run(string(spec), func(t *testing.T) {
			out, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: spec, EncryptionContext: orderContext})
			if err != nil {
				t.Fatal(err)
			}
			if out.KeyPairSpec != spec || aws.ToString(out.KeyId) != arn || out.CiphertextForRecipient != nil {
				t.Errorf("answered %s of %s", out.KeyPairSpec, aws.ToString(out.KeyId))
			}
			private, err := x509.ParsePKCS8PrivateKey(out.PrivateKeyPlaintext)
			if err != nil {
				t.Fatal(err)
			}
			public, err := x509.ParsePKIXPublicKey(out.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			var size int
			var same bool
			switch key := private.(type) {
			case *rsa.PrivateKey:
				size, same = key.N.BitLen(), key.PublicKey.Equal(public)
			case *ecdsa.PrivateKey:
				size, same = key.Curve.Params().BitSize, key.PublicKey.Equal(public)
			case ed25519.PrivateKey:
				size, same = 255, key.Public().(ed25519.PublicKey).Equal(public)
			}
			if size != want || !same {
				t.Errorf("key of %d bits, belongs to the public key: %t", size, same)
			}
			opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob, EncryptionContext: orderContext})
			if err != nil || !bytes.Equal(opened.Plaintext, out.PrivateKeyPlaintext) {
				t.Errorf("the private key's blob does not decrypt to it: %v", err)
			}
		})
	}
	_, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: types.DataKeyPairSpecSm2})
	var unsupported *types.UnsupportedOperationException
	if !errors.As(err, &unsupported) {
		t.Errorf("SM2: %v", err)
	}
	_, err = client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: "RSA_512"})
	wantCode(t, err, "ValidationException", "Value 'RSA_512' at 'keyPairSpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, ")
}

func TestDeriveSharedSecret(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	client := newClient(server)
	for spec, curve := range map[types.KeySpec]ecdh.Curve{
		types.KeySpecEccNistP256: ecdh.P256(),
		types.KeySpecEccNistP384: ecdh.P384(),
		types.KeySpecEccNistP521: ecdh.P521(),
	} {
		t.Run(string(spec), func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Spec: spec})
			peer, err := curve.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			out, err := client.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: &arn, PublicKey: spki, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(out.KeyId) != arn || out.KeyOrigin != types.OriginTypeAwsKms || out.KeyAgreementAlgorithm != types.KeyAgreementAlgorithmSpecEcdh || out.CiphertextForRecipient != nil {
				t.Errorf("answer is of %s", aws.ToString(out.KeyId))
			}
			published, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &arn})
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := x509.ParsePKIXPublicKey(published.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			public, err := parsed.(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			secret, err := peer.ECDH(public)
			if err != nil || !bytes.Equal(secret, out.SharedSecret) {
				t.Errorf("the two sides have different secrets (%v)", err)
			}
		})
	}
}

func TestDeriveSharedSecretRefusals(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	client := newClient(server)
	arn := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP256})
	symmetric := createKey(t, server, kmstest.KeyOptions{})
	spki := func(public any) []byte {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const wrong = "PublicKey is not a valid ECC_NIST_P256 public key"
	for name, test := range map[string]struct {
		key        string
		public     []byte
		algorithm  types.KeyAgreementAlgorithmSpec
		code, text string
	}{
		"other curve":   {arn, spki(&p384.PublicKey), "ECDH", "ValidationException", wrong},
		"RSA":           {arn, spki(&testKey(t).PublicKey), "ECDH", "ValidationException", wrong},
		"not a key":     {arn, []byte("key"), "ECDH", "ValidationException", wrong},
		"trailing byte": {arn, append(spki(&p256.PublicKey), 0), "ECDH", "ValidationException", wrong},
		"too long":      {arn, make([]byte, 8193), "ECDH", "ValidationException", "Member must have length less than or equal to 8192"},
		"algorithm":     {arn, spki(&p256.PublicKey), "X25519", "ValidationException", "Value 'X25519' at 'keyAgreementAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [ECDH]"},
		"symmetric key": {symmetric, spki(&p256.PublicKey), "ECDH", "InvalidKeyUsageException", symmetric + " key usage is ENCRYPT_DECRYPT which is not valid for DeriveSharedSecret."},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := client.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: &test.key, PublicKey: test.public, KeyAgreementAlgorithm: test.algorithm})
			if out != nil {
				t.Fatal("the request succeeded")
			}
			wantCode(t, err, test.code, test.text)
		})
	}
	_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("a")})
	wantCode(t, err, "InvalidKeyUsageException", arn+" key usage is KEY_AGREEMENT which is not valid for Encrypt.")
	_, err = client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &symmetric})
	wantCode(t, err, "UnsupportedOperationException", symmetric)
}

func TestDescribeKey(t *testing.T) {
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	clock := newClock(created)
	server := newServer(t, kmstest.Options{Clock: clock.now, RoleARN: "arn:aws:iam::444455556666:role/path/app"})
	arn := createKey(t, server, kmstest.KeyOptions{})
	agreement := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP384})
	clock.move(time.Since(created))
	client := newClient(server)
	out, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
	if err != nil {
		t.Fatal(err)
	}
	m := out.KeyMetadata
	if aws.ToString(m.Arn) != arn || !strings.HasSuffix(arn, ":444455556666:key/"+aws.ToString(m.KeyId)) || aws.ToString(m.AWSAccountId) != "444455556666" ||
		!m.CreationDate.Equal(created) || m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt ||
		m.KeyState != types.KeyStateEnabled || !m.Enabled || m.Origin != types.OriginTypeAwsKms || len(m.EncryptionAlgorithms) != 1 {
		t.Errorf("metadata is %+v", m)
	}
	out, err = client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &agreement})
	if err != nil {
		t.Fatal(err)
	}
	if m := out.KeyMetadata; m.KeySpec != types.KeySpecEccNistP384 || m.KeyUsage != types.KeyUsageTypeKeyAgreement || len(m.KeyAgreementAlgorithms) != 1 || m.EncryptionAlgorithms != nil {
		t.Errorf("metadata is %+v", m)
	}
}

func TestDisabledKey(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{Alias: "alias/orders"})
	client := newClient(server)
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetKeyEnabled("alias/orders", false); err != nil {
		t.Fatal(err)
	}
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantCode(t, err, "DisabledException", arn+" is disabled.")
	var disabled *types.DisabledException
	if !errors.As(err, &disabled) {
		t.Errorf("error is %T", err)
	}
	out, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
	if err != nil || out.KeyMetadata.Enabled || out.KeyMetadata.KeyState != types.KeyStateDisabled {
		t.Errorf("described as enabled (%v)", err)
	}
	if err := server.SetKeyEnabled(arn, true); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
		t.Errorf("after enabling: %v", err)
	}
}

func TestDryRun(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	dry := aws.Bool(true)
	for name, do := range map[string]func() error{
		"Decrypt": func() error {
			_, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, DryRun: dry})
			return err
		},
		"Encrypt": func() error {
			_, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("a"), DryRun: dry})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", DryRun: dry})
			return err
		},
		"GenerateDataKeyPair": func() error {
			_, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: "RSA_2048", DryRun: dry})
			return err
		},
	} {
		err := do()
		wantCode(t, err, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
		var dryRun *types.DryRunOperationException
		if !errors.As(err, &dryRun) {
			t.Errorf("%s: %T", name, err)
		}
	}
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, DryRun: dry, EncryptionContext: orderContext})
	wantCode(t, err, "InvalidCiphertextException", "")
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	wantCode(t, err, "UnsupportedOperationException", "DryRunModifiers")
}

// Bodies the SDK would never send, properly signed.
func TestBodies(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	for name, test := range map[string]struct{ operation, body, code string }{
		"unknown member":  {"GenerateRandom", `{"NumberOfBytes":1,"Another":[{}]}`, ""},
		"null member":     {"GenerateRandom", `{"NumberOfBytes":1,"Recipient":null}`, ""},
		"other case":      {"GenerateRandom", `{"numberOfBytes":1}`, "ValidationException"},
		"empty":           {"GenerateRandom", ``, "SerializationException"},
		"not an object":   {"GenerateRandom", `[]`, "SerializationException"},
		"duplicate":       {"GenerateRandom", `{"NumberOfBytes":1,"NumberOfBytes":2}`, "SerializationException"},
		"trailing":        {"GenerateRandom", `{"NumberOfBytes":1}{}`, "SerializationException"},
		"truncated":       {"GenerateRandom", `{"NumberOfBytes":1`, "SerializationException"},
		"nesting":         {"GenerateRandom", `{"a":` + strings.Repeat("[", 100000), "SerializationException"},
		"text for number": {"GenerateRandom", `{"NumberOfBytes":"1"}`, "SerializationException"},
		"fraction":        {"GenerateRandom", `{"NumberOfBytes":1.5}`, "SerializationException"},
		"huge number":     {"GenerateRandom", `{"NumberOfBytes":1e400}`, "SerializationException"},
		"number for text": {"Encrypt", `{"KeyId":1,"Plaintext":"AAAA"}`, "SerializationException"},
		"not base64":      {"Encrypt", `{"KeyId":"` + arn + `","Plaintext":"*"}`, "SerializationException"},
		"no key":          {"Encrypt", `{"Plaintext":"AAAA"}`, "ValidationException"},
		"empty key":       {"Encrypt", `{"KeyId":"","Plaintext":"AAAA"}`, "ValidationException"},
		"long key":        {"Encrypt", `{"KeyId":"` + strings.Repeat("a", 2049) + `","Plaintext":"AAAA"}`, "ValidationException"},
		"context type":    {"Encrypt", `{"KeyId":"` + arn + `","Plaintext":"AAAA","EncryptionContext":{"a":1}}`, "SerializationException"},
		"flag type":       {"Encrypt", `{"KeyId":"` + arn + `","Plaintext":"AAAA","DryRun":"no"}`, "SerializationException"},
		"recipient type":  {"GenerateRandom", `{"NumberOfBytes":1,"Recipient":"me"}`, "SerializationException"},
		"empty recipient": {"GenerateRandom", `{"NumberOfBytes":1,"Recipient":{}}`, "ValidationException"},
	} {
		t.Run(name, func(t *testing.T) {
			response := send(t, server, test.operation, test.body)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			got := last(t, server).ErrorCode
			if got != test.code || test.code != "" && !strings.Contains(string(body), test.code) || (response.StatusCode == 200) != (test.code == "") {
				t.Errorf("answer is %d %s", response.StatusCode, body)
			}
		})
	}
}
