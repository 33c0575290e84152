package kmstest

import "github.com/aws/aws-sdk-go-v2/service/kms/types"

// maxPlaintextLength is PlaintextType's limit in the service model, in bytes.
const maxPlaintextLength = 4096

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
