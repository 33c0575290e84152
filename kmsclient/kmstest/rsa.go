package kmstest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"hash"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// oaepHashes are the encryption algorithms of RSA keys (RFC 8017 section 7.1),
// without a label, the same hash in MGF1.
var oaepHashes = map[types.EncryptionAlgorithmSpec]func() hash.Hash{
	types.EncryptionAlgorithmSpecRsaesOaepSha1:   sha1.New,
	types.EncryptionAlgorithmSpecRsaesOaepSha256: sha256.New,
}

// encryptionAlgorithms are what a key that encrypts can do.
func (k *key) encryptionAlgorithms() []types.EncryptionAlgorithmSpec {
	if k.rsa != nil {
		return []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecRsaesOaepSha1, types.EncryptionAlgorithmSpecRsaesOaepSha256}
	}
	return []types.EncryptionAlgorithmSpec{types.EncryptionAlgorithmSpecSymmetricDefault}
}

// checkAlgorithm is for a key that was admitted as one that encrypts.
func (c *call) checkAlgorithm(k *key, algorithm types.EncryptionAlgorithmSpec) *apiError {
	if !slices.Contains(k.encryptionAlgorithms(), algorithm) {
		return newAPIError(codeInvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", algorithm, k.spec)
	}
	if k.rsa != nil && len(c.context) > 0 {
		return invalid("An encryption context cannot be used with the asymmetric key %s.", k.arn)
	}
	return nil
}

func (k *key) encryptOAEP(plaintext []byte, algorithm types.EncryptionAlgorithmSpec) ([]byte, *apiError) {
	sum := oaepHashes[algorithm]()
	if limit := k.rsa.Size() - 2*sum.Size() - 2; len(plaintext) > limit {
		return nil, invalid("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, k.spec, limit)
	}
	ciphertext, err := rsa.EncryptOAEP(sum, rand.Reader, &k.rsa.PublicKey, plaintext, nil)
	if err != nil {
		return nil, internalError("encrypting", err)
	}
	return ciphertext, nil
}

func (k *key) decryptOAEP(ciphertext []byte, algorithm types.EncryptionAlgorithmSpec) ([]byte, *apiError) {
	plaintext, err := rsa.DecryptOAEP(oaepHashes[algorithm](), nil, k.rsa, ciphertext, nil)
	if err != nil {
		return nil, invalidCiphertext()
	}
	return plaintext, nil
}
