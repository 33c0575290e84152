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

func (c *call) encrypt() (map[string]any, *apiError) {
	plaintext, failure := c.requiredBlob("Plaintext", maxPlaintextLength)
	if failure != nil {
		return nil, failure
	}
	if failure := c.encryptionContext(); failure != nil {
		return nil, failure
	}
	algorithm, failure := c.encryptionAlgorithm()
	if failure != nil {
		return nil, failure
	}
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, failure
	}
	if failure := c.checkAlgorithm(k, algorithm); failure != nil {
		return nil, failure
	}
	var ciphertext []byte
	if k.rsa != nil {
		if ciphertext, failure = k.encryptOAEP(plaintext, algorithm); failure != nil {
			return nil, failure
		}
	} else {
		ciphertext = k.seal(plaintext, c.context)
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	return map[string]any{
		"CiphertextBlob":      ciphertext,
		"KeyId":               k.arn,
		"EncryptionAlgorithm": algorithm,
	}, nil
}

func (c *call) decrypt() (map[string]any, *apiError) {
	blob, failure := c.requiredBlob("CiphertextBlob", maxBlobLength)
	if failure != nil {
		return nil, failure
	}
	if failure := c.encryptionContext(); failure != nil {
		return nil, failure
	}
	algorithm, failure := c.encryptionAlgorithm()
	if failure != nil {
		return nil, failure
	}
	k, failure := c.blobKey(blob, algorithm)
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, failure
	}
	if failure := c.checkAlgorithm(k, algorithm); failure != nil {
		return nil, failure
	}
	answer := map[string]any{"KeyId": k.arn, "EncryptionAlgorithm": algorithm}
	var plaintext []byte
	if k.rsa != nil {
		plaintext, failure = k.decryptOAEP(blob, algorithm)
	} else {
		plaintext, failure = k.open(blob, c.context)
		answer["KeyMaterialId"] = k.materialID
	}
	if failure != nil {
		return nil, failure
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	if failure := c.deliver(answer, "Plaintext", plaintext); failure != nil {
		return nil, failure
	}
	return answer, nil
}

// blobKey finds the key that a symmetric blob names and holds it against KeyId,
// if that is given. An asymmetric key's ciphertext names none: there KeyId is
// required.
func (c *call) blobKey(blob []byte, algorithm types.EncryptionAlgorithmSpec) (*key, *apiError) {
	var wanted *key
	if c.input["KeyId"] != nil {
		var failure *apiError
		if wanted, failure = c.key(); failure != nil {
			return nil, failure
		}
		if wanted.rsa != nil {
			return wanted, nil
		}
	}
	id, ok := parseBlob(blob)
	if !ok {
		if wanted == nil && algorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
			return nil, invalid("KeyId is required with the EncryptionAlgorithm %s.", algorithm)
		}
		return nil, invalidCiphertext()
	}
	k, failure := c.server.findKey(id)
	if failure != nil {
		return nil, newAPIError(codeAccessDenied, "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")
	}
	if wanted != nil && wanted != k {
		return nil, newAPIError(codeIncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if k.aead == nil { // no blob of this server names such a key
		return nil, invalidCiphertext()
	}
	return k, nil
}

// oaepHashes are the encryption algorithms of RSA keys (RFC 8017, section 7.1),
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
