package kmstest

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

// maxPlaintextLength is PlaintextType's limit in the service model, in bytes.
const maxPlaintextLength = 4096

func (c *call) encrypt() (map[string]any, *apiError) {
	plaintext, failure := c.requiredBlob("Plaintext", maxPlaintextLength)
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
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeEncryptDecrypt); failure != nil {
		return nil, failure
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	return map[string]any{
		"CiphertextBlob":      k.seal(plaintext, context),
		"KeyId":               k.arn,
		"EncryptionAlgorithm": types.EncryptionAlgorithmSpecSymmetricDefault,
	}, nil
}
