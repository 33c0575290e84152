package kmsclient

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// call is a request of one of the five operations that take a recipient.
type call struct {
	op string
	// input is a copy of the caller's, of which recipient and keyID point to
	// fields. The copy is shallow: only those two fields are ever set.
	input     any
	recipient **types.RecipientInfo
	keyID     **string // nil if the operation is with no key
	// sized: the request says the size of the plaintext. It is size bytes, or 0
	// if it says none that is known here.
	sized bool
	size  int
	// keyOptional: KMS finds the key by itself if the request names none.
	keyOptional bool
	key         *recipientKey // what the answer must be encrypted to
	made        made          // the request as finalInput had it serialised
	last        attempt
	attempts    int
	// failed is the error of the last attempt that failed by itself, rather
	// than with the caller's context. It was the failedAttempt'th.
	failed        error
	failedAttempt int
}

// newCall returns nil for the input of any other operation.
func newCall(input any) *call {
	switch in := input.(type) {
	case *kms.DecryptInput:
		c := *in
		return &call{op: "Decrypt", input: &c, recipient: &c.Recipient, keyID: &c.KeyId, keyOptional: true}
	case *kms.GenerateDataKeyInput:
		c := *in
		return &call{op: "GenerateDataKey", input: &c, recipient: &c.Recipient, keyID: &c.KeyId, size: dataKeySize(in), sized: true}
	case *kms.GenerateDataKeyPairInput:
		c := *in
		return &call{op: "GenerateDataKeyPair", input: &c, recipient: &c.Recipient, keyID: &c.KeyId}
	case *kms.GenerateRandomInput:
		c := *in
		return &call{op: "GenerateRandom", input: &c, recipient: &c.Recipient, size: int(aws.ToInt32(in.NumberOfBytes)), sized: true}
	case *kms.DeriveSharedSecretInput:
		c := *in
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

// answer points to the fields of an output that matter here.
type answer struct {
	plaintext, envelope *[]byte
	keyID               *string
	// missing is the field that the caller has to keep and that isn't there, ""
	// if there are all: a data key without its ciphertext is lost with the
	// enclave, and so is what it encrypted.
	missing string
}

func newAnswer(output any) (answer, bool) {
	switch out := output.(type) {
	case *kms.DecryptOutput:
		return answer{&out.Plaintext, &out.CiphertextForRecipient, out.KeyId, ""}, true
	case *kms.GenerateDataKeyOutput:
		return answer{&out.Plaintext, &out.CiphertextForRecipient, out.KeyId,
			firstEmpty(field{"CiphertextBlob", out.CiphertextBlob})}, true
	case *kms.GenerateDataKeyPairOutput:
		return answer{&out.PrivateKeyPlaintext, &out.CiphertextForRecipient, out.KeyId,
			firstEmpty(field{"PrivateKeyCiphertextBlob", out.PrivateKeyCiphertextBlob}, field{"PublicKey", out.PublicKey})}, true
	case *kms.GenerateRandomOutput:
		return answer{&out.Plaintext, &out.CiphertextForRecipient, nil, ""}, true
	case *kms.DeriveSharedSecretOutput:
		return answer{&out.SharedSecret, &out.CiphertextForRecipient, out.KeyId, ""}, true
	}
	return answer{}, false
}

type field struct {
	name  string
	value []byte
}

func firstEmpty(fields ...field) (name string) {
	for _, f := range fields {
		if len(f.value) == 0 {
			return f.name
		}
	}
	return ""
}
