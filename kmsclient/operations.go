package kmsclient

import (
	"bytes"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// call is a request of one of the five operations that take a recipient.
type call struct {
	op string
	// input is a copy of the caller's, with recipient and keyID pointing to its
	// fields. It shares no memory with the caller's, so that nobody can change what was
	// checked before it is sent.
	input     any
	recipient **types.RecipientInfo
	keyID     **string // nil if the operation has no key
	// sized: the request says the size of the plaintext, which is size bytes, or 0 if
	// it is not known here.
	sized       bool
	size        int
	keyOptional bool          // KMS finds the key by itself if the request names none
	key         *recipientKey // what the response must be encrypted to
	last        attempt
	attempts    int
	// failed is the error of the last attempt that failed by itself, rather than with
	// the caller's context. It was attempt number failedAttempt.
	failed        error
	failedAttempt int
}

// newCall returns nil for the input of any other operation.
func newCall(input any) *call {
	switch in := input.(type) {
	case *kms.DecryptInput:
		c := *in
		c.CiphertextBlob = bytes.Clone(in.CiphertextBlob)
		c.DryRun = clone(in.DryRun)
		c.DryRunModifiers = slices.Clone(in.DryRunModifiers)
		c.EncryptionContext = maps.Clone(in.EncryptionContext)
		c.GrantTokens = slices.Clone(in.GrantTokens)
		c.KeyId = clone(in.KeyId)
		return &call{op: "Decrypt", input: &c, recipient: &c.Recipient, keyID: &c.KeyId, keyOptional: true}
	case *kms.GenerateDataKeyInput:
		c := *in
		c.DryRun = clone(in.DryRun)
		c.EncryptionContext = maps.Clone(in.EncryptionContext)
		c.GrantTokens = slices.Clone(in.GrantTokens)
		c.KeyId = clone(in.KeyId)
		c.NumberOfBytes = clone(in.NumberOfBytes)
		return &call{op: "GenerateDataKey", input: &c, recipient: &c.Recipient, keyID: &c.KeyId, size: dataKeySize(in), sized: true}
	case *kms.GenerateDataKeyPairInput:
		c := *in
		c.DryRun = clone(in.DryRun)
		c.EncryptionContext = maps.Clone(in.EncryptionContext)
		c.GrantTokens = slices.Clone(in.GrantTokens)
		c.KeyId = clone(in.KeyId)
		return &call{op: "GenerateDataKeyPair", input: &c, recipient: &c.Recipient, keyID: &c.KeyId}
	case *kms.GenerateRandomInput:
		c := *in
		c.CustomKeyStoreId = clone(in.CustomKeyStoreId)
		c.NumberOfBytes = clone(in.NumberOfBytes)
		return &call{op: "GenerateRandom", input: &c, recipient: &c.Recipient, size: int(aws.ToInt32(in.NumberOfBytes)), sized: true}
	case *kms.DeriveSharedSecretInput:
		c := *in
		c.DryRun = clone(in.DryRun)
		c.GrantTokens = slices.Clone(in.GrantTokens)
		c.KeyId = clone(in.KeyId)
		c.PublicKey = bytes.Clone(in.PublicKey)
		return &call{op: "DeriveSharedSecret", input: &c, recipient: &c.Recipient, keyID: &c.KeyId}
	}
	return nil
}

func dataKeySize(in *kms.GenerateDataKeyInput) int {
	switch in.KeySpec {
	case types.DataKeySpecAes256:
		return 32
	case types.DataKeySpecAes128:
		return 16
	}
	return int(aws.ToInt32(in.NumberOfBytes))
}

// requestedKey returns the key that the request names, if any.
func (c *call) requestedKey() string {
	if c.keyID == nil {
		return ""
	}
	return aws.ToString(*c.keyID)
}

// clone returns a pointer to a copy of what p points to, or nil.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}
