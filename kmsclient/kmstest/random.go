package kmstest

import "crypto/rand"

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
