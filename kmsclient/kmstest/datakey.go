package kmstest

import (
	"crypto/rand"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// maxNumberOfBytes is NumberOfBytesType's limit in the service model.
const maxNumberOfBytes = 1024

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
