package kmstest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func publicKeyOf(t testing.TB, client *kms.Client, keyID string) (*rsa.PublicKey, *kms.GetPublicKeyOutput) {
	t.Helper()
	out, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &keyID})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return public.(*rsa.PublicKey), out
}

// What is encrypted outside with the public key, or by Encrypt, is decrypted
// for everyone the policy allows: in plaintext, or for the attested recipient.
func TestRSA(t *testing.T) {
	device := newNSM(t, nsmtest.Options{})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	client := newClient(server)
	key := testKey(t)
	recipient := attest(t, device, spkiOf(t, &key.PublicKey))
	want := []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecRsaesOaepSha1, types.EncryptionAlgorithmSpecRsaesOaepSha256}
	for spec, bits := range map[types.KeySpec]int{types.KeySpecRsa2048: 2048, types.KeySpecRsa3072: 3072, types.KeySpecRsa4096: 4096} {
		t.Run(string(spec), func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Spec: spec})
			public, out := publicKeyOf(t, client, arn)
			if public.N.BitLen() != bits || out.KeySpec != spec || out.KeyUsage != types.KeyUsageTypeEncryptDecrypt || !slices.Equal(out.EncryptionAlgorithms, want) || aws.ToString(out.KeyId) != arn {
				t.Errorf("GetPublicKey answered %d bits, %+v", public.N.BitLen(), out)
			}
			described, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
			if err != nil {
				t.Fatal(err)
			}
			if m := described.KeyMetadata; m.KeySpec != spec || !slices.Equal(m.EncryptionAlgorithms, want) || m.CurrentKeyMaterialId != nil {
				t.Errorf("DescribeKey answered %+v", m)
			}
			for algorithm, newHash := range map[types.EncryptionAlgorithmSpec]func() hash.Hash{
				types.EncryptionAlgorithmSpecRsaesOaepSha1: sha1.New, types.EncryptionAlgorithmSpecRsaesOaepSha256: sha256.New,
			} {
				longest := bytes.Repeat([]byte("x"), bits/8-2*newHash().Size()-2)
				outside, err := rsa.EncryptOAEP(newHash(), rand.Reader, public, longest, nil)
				if err != nil {
					t.Fatal(err)
				}
				inside, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: longest, EncryptionAlgorithm: algorithm})
				if err != nil {
					t.Fatal(err)
				}
				if inside.EncryptionAlgorithm != algorithm || aws.ToString(inside.KeyId) != arn {
					t.Errorf("Encrypt answered %+v", inside)
				}
				for _, ciphertext := range [][]byte{outside, inside.CiphertextBlob} {
					for _, with := range []*types.RecipientInfo{nil, recipient} {
						opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &arn, CiphertextBlob: ciphertext, EncryptionAlgorithm: algorithm, Recipient: with})
						if err != nil {
							t.Fatal(err)
						}
						plaintext := opened.Plaintext
						if with != nil {
							if plaintext != nil {
								t.Error("the answer has a plaintext beside the envelope")
							}
							if plaintext, err = cms.Open(opened.CiphertextForRecipient, key); err != nil {
								t.Fatal(err)
							}
						}
						if !bytes.Equal(plaintext, longest) || opened.EncryptionAlgorithm != algorithm || opened.KeyMaterialId != nil || aws.ToString(opened.KeyId) != arn {
							t.Errorf("Decrypt answered %+v", opened)
						}
					}
				}
				_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: append(longest, 'x'), EncryptionAlgorithm: algorithm})
				wantCode(t, err, "ValidationException", "Algorithm "+string(algorithm)+" and key spec "+string(spec)+" cannot encrypt data larger than")
			}
		})
	}
}

func TestRSARefusals(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	client := newClient(server)
	arn, symmetric := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecRsa2048}), createKey(t, server, kmstest.KeyOptions{})
	agreement := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP256})
	const oaep = types.EncryptionAlgorithmSpecRsaesOaepSha256
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret"), EncryptionAlgorithm: oaep})
	if err != nil {
		t.Fatal(err)
	}
	blob := sealed.CiphertextBlob
	changed := append(bytes.Clone(blob[:255]), blob[255]^1)
	peer, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &agreement})
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(in kms.DecryptInput) error {
		out, err := client.Decrypt(t.Context(), &in)
		if out != nil {
			t.Error("decrypted")
		}
		return err
	}
	encrypt := func(in kms.EncryptInput) error {
		in.Plaintext = []byte("secret")
		_, err := client.Encrypt(t.Context(), &in)
		return err
	}
	const incompatible = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048."
	for name, test := range map[string]struct {
		err        error
		code, text string
	}{
		"Encrypt, no algorithm":       {encrypt(kms.EncryptInput{KeyId: &arn}), "InvalidKeyUsageException", incompatible},
		"Encrypt, symmetric key":      {encrypt(kms.EncryptInput{KeyId: &symmetric, EncryptionAlgorithm: oaep}), "InvalidKeyUsageException", "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."},
		"Encrypt, context":            {encrypt(kms.EncryptInput{KeyId: &arn, EncryptionAlgorithm: oaep, EncryptionContext: orderContext}), "ValidationException", "encryption context"},
		"Encrypt, SM2":                {encrypt(kms.EncryptInput{KeyId: &arn, EncryptionAlgorithm: types.EncryptionAlgorithmSpecSm2pke}), "InvalidKeyUsageException", "Algorithm SM2PKE is incompatible"},
		"Encrypt, agreement key":      {encrypt(kms.EncryptInput{KeyId: &agreement, EncryptionAlgorithm: oaep}), "InvalidKeyUsageException", agreement + " key usage is KEY_AGREEMENT which is not valid for Encrypt."},
		"Decrypt, no algorithm":       {decrypt(kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob}), "InvalidKeyUsageException", incompatible},
		"Decrypt, no key":             {decrypt(kms.DecryptInput{CiphertextBlob: blob, EncryptionAlgorithm: oaep}), "ValidationException", "KeyId is required"},
		"Decrypt, neither":            {decrypt(kms.DecryptInput{CiphertextBlob: blob}), "InvalidCiphertextException", ""},
		"Decrypt, other algorithm":    {decrypt(kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha1}), "InvalidCiphertextException", ""},
		"Decrypt, context":            {decrypt(kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob, EncryptionAlgorithm: oaep, EncryptionContext: orderContext}), "ValidationException", "encryption context"},
		"Decrypt, changed":            {decrypt(kms.DecryptInput{KeyId: &arn, CiphertextBlob: changed, EncryptionAlgorithm: oaep}), "InvalidCiphertextException", ""},
		"Decrypt, short":              {decrypt(kms.DecryptInput{KeyId: &arn, CiphertextBlob: blob[:255], EncryptionAlgorithm: oaep}), "InvalidCiphertextException", ""},
		"GenerateDataKey":             {second(client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256"})), "InvalidKeyUsageException", incompatible},
		"GenerateDataKeyWithout":      {second(client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, KeySpec: "AES_256"})), "InvalidKeyUsageException", incompatible},
		"GenerateDataKeyPair":         {second(client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: "ECC_NIST_P256"})), "InvalidKeyUsageException", incompatible},
		"DeriveSharedSecret":          {second(client.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: &arn, KeyAgreementAlgorithm: "ECDH", PublicKey: peer.PublicKey})), "InvalidKeyUsageException", arn + " key usage is ENCRYPT_DECRYPT which is not valid for DeriveSharedSecret."},
		"key pair stdlib cannot make": {second(client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &symmetric, KeyPairSpec: "ECC_SECG_P256K1"})), "UnsupportedOperationException", "kmstest does not generate key pairs of spec ECC_SECG_P256K1."},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, test.err, test.code, test.text) })
	}
}

func second[T any](_ T, err error) error { return err }
