package kmstest

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

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
