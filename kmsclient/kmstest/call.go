package kmstest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// call is one request for an operation.
type call struct {
	server      *Server
	operation   string
	input       object
	context     map[string]string // the encryption context
	grantTokens int
	target      *key       // nil: none, or not found yet
	recipient   *recipient // nil: the answer carries plaintext
	fault       Failure    // "": none was injected
}

// operations are what the server can do. The five with a recipient read it in
// admit or, without a key, themselves.
var operations = map[string]func(*call) (map[string]any, *apiError){
	"Decrypt":                         (*call).decrypt,
	"DeriveSharedSecret":              (*call).deriveSharedSecret,
	"DescribeKey":                     (*call).describeKey,
	"Encrypt":                         (*call).encrypt,
	"GenerateDataKey":                 (*call).generateDataKey,
	"GenerateDataKeyPair":             (*call).generateDataKeyPair,
	"GenerateDataKeyWithoutPlaintext": (*call).generateDataKeyWithoutPlaintext,
	"GenerateRandom":                  (*call).generateRandom,
	"GetPublicKey":                    (*call).getPublicKey,
}

// recipientOperations are the operations with a Recipient parameter. KMS
// ignores it elsewhere, as any member it does not know.
var recipientOperations = []string{"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"}

// grantTokenOperations are the operations with a GrantTokens parameter.
var grantTokenOperations = []string{"Decrypt", "DeriveSharedSecret", "DescribeKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateDataKeyWithoutPlaintext", "GetPublicKey"}

// key resolves the KeyId parameter.
func (c *call) key() (*key, *apiError) {
	name, present, failure := c.input.text("KeyId")
	switch {
	case failure != nil:
		return nil, failure
	case !present:
		return nil, missingMember("keyId")
	case name == "":
		return nil, invalidMember("''", "keyId", "Member must have length greater than or equal to 1")
	case len(name) > maxKeyIDLength:
		return nil, invalidMember("'"+shorten(name)+"'", "keyId", "Member must have length less than or equal to 2048")
	}
	return c.server.findKey(name)
}

// admit decides whether the call may use k, nil for an operation without a key:
// it verifies the recipient, asks the policy, and then looks at the key's state
// and usage, in KMS's order, so that a caller without permission learns nothing
// of the key.
func (c *call) admit(k *key, usage types.KeyUsageType) (failure *apiError) {
	c.target = k
	if slices.Contains(recipientOperations, c.operation) {
		if c.recipient, failure = c.server.readRecipient(c.input); failure != nil {
			return failure
		}
	}
	if failure := c.authorize(k); failure != nil {
		return failure
	}
	if k == nil || usage == "" {
		return nil
	}
	if !c.server.isEnabled(k) {
		return newAPIError(codeDisabled, "%s is disabled.", k.arn)
	}
	if k.usage != usage {
		return newAPIError(codeInvalidKeyUsage, "%s key usage is %s which is not valid for %s.", k.arn, k.usage, c.operation)
	}
	return nil
}

// dryRun ends a request with DryRun before it has any effect, but after
// everything that could make it fail.
func (c *call) dryRun() *apiError {
	dry, failure := c.input.flag("DryRun")
	if failure != nil {
		return failure
	}
	if c.input["DryRunModifiers"] != nil {
		return newAPIError(codeUnsupported, "kmstest does not support DryRunModifiers.")
	}
	if dry {
		return newAPIError(codeDryRun, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// encryptionContext reads the EncryptionContext parameter into the call.
func (c *call) encryptionContext() (failure *apiError) {
	c.context, failure = c.input.encryptionContext()
	return failure
}

func (o object) encryptionContext() (map[string]string, *apiError) {
	context, failure := o.textMap("EncryptionContext")
	if failure != nil {
		return nil, failure
	}
	size := 0
	for name, value := range context {
		size += len(name) + len(value)
	}
	if size > maxContextLength {
		return nil, invalid("Encryption context is larger than %d bytes.", maxContextLength)
	}
	return context, nil
}

// readGrantTokens checks the tokens' form as the service model has it. They
// have no other effect, as in KMS where the key policy allows the request.
func (c *call) readGrantTokens() *apiError {
	if !slices.Contains(grantTokenOperations, c.operation) || c.input["GrantTokens"] == nil {
		return nil
	}
	tokens, ok := c.input["GrantTokens"].([]any)
	if !ok {
		return wrongType("GrantTokens", "a list")
	}
	for _, token := range tokens {
		text, ok := token.(string)
		if !ok {
			return wrongType("GrantTokens", "a list of strings")
		}
		if len(text) < 1 || len(text) > maxGrantTokenLength {
			return invalidMember("", "grantTokens", fmt.Sprintf("Member must satisfy constraint: [Member must have length less than or equal to %d, Member must have length greater than or equal to 1]", maxGrantTokenLength))
		}
	}
	if len(tokens) > maxGrantTokens {
		return invalidMember("", "grantTokens", fmt.Sprintf("Member must have length less than or equal to %d", maxGrantTokens))
	}
	c.grantTokens = len(tokens)
	return nil
}

// enum reads a member that must be one of the values, "" if absent.
func enum[T ~string](c *call, name string, values []T) (T, *apiError) {
	text, present, failure := c.input.text(name)
	if failure != nil || !present {
		return "", failure
	}
	if !slices.Contains(values, T(text)) {
		names := make([]string, len(values))
		for i, value := range values {
			names[i] = string(value)
		}
		return "", invalidMember("'"+shorten(text)+"'", memberName(name),
			"Member must satisfy enum value set: ["+strings.Join(names, ", ")+"]")
	}
	return T(text), nil
}

// encryptionAlgorithm reads EncryptionAlgorithm, SYMMETRIC_DEFAULT if absent.
func (c *call) encryptionAlgorithm() (types.EncryptionAlgorithmSpec, *apiError) {
	algorithm, failure := enum(c, "EncryptionAlgorithm", types.EncryptionAlgorithmSpec("").Values())
	if failure == nil && algorithm == "" {
		algorithm = types.EncryptionAlgorithmSpecSymmetricDefault
	}
	return algorithm, failure
}

// size reads an integer member between 1 and limit.
func (c *call) size(name string, limit int64) (value int, present bool, failure *apiError) {
	number, present, failure := c.input.integer(name)
	switch {
	case failure != nil || !present:
		return 0, false, failure
	case number < 1:
		return 0, false, invalidMember(fmt.Sprintf("'%d'", number), memberName(name), "Member must have value greater than or equal to 1")
	case number > limit:
		return 0, false, invalidMember(fmt.Sprintf("'%d'", number), memberName(name), fmt.Sprintf("Member must have value less than or equal to %d", limit))
	}
	return int(number), true, nil
}

// requiredBlob reads a blob member of 1 to limit bytes.
func (c *call) requiredBlob(name string, limit int) ([]byte, *apiError) {
	blob, present, failure := c.input.blob(name)
	switch {
	case failure != nil:
		return nil, failure
	case !present:
		return nil, missingMember(memberName(name))
	case len(blob) == 0:
		return nil, invalidMember("", memberName(name), "Member must have length greater than or equal to 1")
	case len(blob) > limit:
		return nil, invalidMember("", memberName(name), fmt.Sprintf("Member must have length less than or equal to %d", limit))
	}
	return blob, nil
}
