package kmstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
)

func (c *call) generateDataKey() (map[string]any, *apiError) {
	answer, dataKey, failure := c.newDataKey()
	if failure != nil {
		return nil, failure
	}
	if failure := c.deliver(answer, "Plaintext", dataKey); failure != nil {
		return nil, failure
	}
	return answer, nil
}

func (c *call) generateDataKeyWithoutPlaintext() (map[string]any, *apiError) {
	answer, _, failure := c.newDataKey()
	return answer, failure
}

// newDataKey is what the two operations share: the data key, and the answer
// without it.
func (c *call) newDataKey() (answer map[string]any, dataKey []byte, failure *apiError) {
	size, failure := c.dataKeySize()
	if failure != nil {
		return nil, nil, failure
	}
	if failure := c.encryptionContext(); failure != nil {
		return nil, nil, failure
	}
	k, failure := c.key()
	if failure != nil {
		return nil, nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, nil, failure
	}
	if failure := c.checkAlgorithm(k, types.EncryptionAlgorithmSpecSymmetricDefault); failure != nil {
		return nil, nil, failure
	}
	if failure := c.dryRun(); failure != nil {
		return nil, nil, failure
	}
	dataKey = make([]byte, size)
	rand.Read(dataKey)
	return map[string]any{
		"CiphertextBlob": k.seal(dataKey, c.context),
		"KeyId":          k.arn,
		"KeyMaterialId":  k.materialID,
	}, dataKey, nil
}

// dataKeySize reads KeySpec or NumberOfBytes; a request has one of them.
func (c *call) dataKeySize() (int, *apiError) {
	spec, failure := enum(c, "KeySpec", types.DataKeySpec("").Values())
	if failure != nil {
		return 0, failure
	}
	size, present, failure := c.size("NumberOfBytes", maxNumberOfBytes)
	if failure != nil {
		return 0, failure
	}
	if present == (spec != "") {
		return 0, invalid("Please specify either number of bytes or key spec.")
	}
	switch spec {
	case types.DataKeySpecAes128:
		return 16, nil
	case types.DataKeySpecAes256:
		return 32, nil
	}
	return size, nil
}

// keyPairs makes the private key of each pair the server can generate.
var keyPairs = map[types.DataKeyPairSpec]func() (crypto.Signer, error){
	types.DataKeyPairSpecRsa2048:     func() (crypto.Signer, error) { return rsakey.Generate(2048) },
	types.DataKeyPairSpecRsa3072:     func() (crypto.Signer, error) { return rsakey.Generate(3072) },
	types.DataKeyPairSpecRsa4096:     func() (crypto.Signer, error) { return rsakey.Generate(4096) },
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

// generateRandom uses no key, so that only IAM policies govern it and no key
// policy's attestation condition applies.
func (c *call) generateRandom() (map[string]any, *apiError) {
	size, present, failure := c.size("NumberOfBytes", maxNumberOfBytes)
	if failure != nil {
		return nil, failure
	}
	if !present {
		return nil, invalid("NumberOfBytes is required.")
	}
	if c.input["CustomKeyStoreId"] != nil {
		return nil, newAPIError(codeUnsupported, "kmstest has no custom key stores.")
	}
	if failure := c.admit(nil, ""); failure != nil {
		return nil, failure
	}
	random := make([]byte, size)
	rand.Read(random)
	answer := map[string]any{}
	if failure := c.deliver(answer, "Plaintext", random); failure != nil {
		return nil, failure
	}
	return answer, nil
}
