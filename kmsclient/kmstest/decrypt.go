package kmstest

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

func (c *call) decrypt() (map[string]any, *apiError) {
	blob, failure := c.requiredBlob("CiphertextBlob", maxBlobLength)
	if failure != nil {
		return nil, failure
	}
	context, failure := c.encryptionContext()
	if failure != nil {
		return nil, failure
	}
	if failure := c.encryptionAlgorithm(); failure != nil {
		return nil, failure
	}
	k, failure := c.blobKey(blob)
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, failure
	}
	plaintext, failure := k.open(blob, context)
	if failure != nil {
		return nil, failure
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	answer := map[string]any{
		"KeyId":               k.arn,
		"EncryptionAlgorithm": types.EncryptionAlgorithmSpecSymmetricDefault,
		"KeyMaterialId":       k.materialID,
	}
	if failure := c.deliver(answer, "Plaintext", plaintext); failure != nil {
		return nil, failure
	}
	return answer, nil
}

// blobKey finds the key a blob names and holds it against KeyId, if that is
// given.
func (c *call) blobKey(blob []byte) (*key, *apiError) {
	var wanted *key
	if c.input["KeyId"] != nil {
		var failure *apiError
		if wanted, failure = c.key(); failure != nil {
			return nil, failure
		}
	}
	id, ok := parseBlob(blob)
	if !ok {
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
