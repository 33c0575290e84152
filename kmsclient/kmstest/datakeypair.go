package kmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// keyPairs makes the private key of each pair the server can generate.
var keyPairs = map[types.DataKeyPairSpec]func() (crypto.Signer, error){
	types.DataKeyPairSpecRsa2048:     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	types.DataKeyPairSpecRsa3072:     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	types.DataKeyPairSpecRsa4096:     func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	types.DataKeyPairSpecEccNistP256: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	types.DataKeyPairSpecEccNistP384: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
	types.DataKeyPairSpecEccNistP521: func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) },
	types.DataKeyPairSpecEccNistEdwards25519: func() (crypto.Signer, error) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	},
}

// generateDataKeyPair answers with the private key as PKCS #8 (RFC 5958) and
// the public key as SPKI (RFC 5280), both in DER.
func (c *call) generateDataKeyPair() (map[string]any, *apiError) {
	spec, failure := enum(c, "KeyPairSpec", types.DataKeyPairSpec("").Values())
	if failure != nil {
		return nil, failure
	}
	if spec == "" {
		return nil, missingMember("keyPairSpec")
	}
	if failure := c.encryptionContext(); failure != nil {
		return nil, failure
	}
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, failure
	}
	if failure := c.checkAlgorithm(k, types.EncryptionAlgorithmSpecSymmetricDefault); failure != nil {
		return nil, failure
	}
	generate, ok := keyPairs[spec]
	if !ok {
		return nil, newAPIError(codeUnsupported, "kmstest does not generate key pairs of spec %s.", spec)
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	private, err := generate()
	if err != nil {
		return nil, internalError("generating the key pair", err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, internalError("encoding the private key", err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		return nil, internalError("encoding the public key", err)
	}
	answer := map[string]any{
		"PrivateKeyCiphertextBlob": k.seal(privateDER, c.context),
		"PublicKey":                publicDER,
		"KeyPairSpec":              spec,
		"KeyId":                    k.arn,
		"KeyMaterialId":            k.materialID,
	}
	if failure := c.deliver(answer, "PrivateKeyPlaintext", privateDER); failure != nil {
		return nil, failure
	}
	return answer, nil
}
