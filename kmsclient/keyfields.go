package kmsclient

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// keyFields are the fields by which the SDK's inputs name KMS keys.
var keyFields = []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"}

// readingOperations only read about a key: they use none, change none, and
// send nothing but the key's name. They may name any.
var readingOperations = []string{
	"DescribeKey",
	"GetKeyLastUsage",
	"GetKeyPolicy",
	"GetKeyRotationStatus",
	"GetPublicKey",
	"ListAliases",
	"ListGrants",
	"ListKeyPolicies",
	"ListKeyRotations",
	"ListResourceTags",
}

// checkInput refuses an input of an operation that isn't attested if it names a
// key that isn't pinned. New operations of KMS's are checked without being
// known here.
func (p pins) checkInput(op string, input any) error {
	if p.any || slices.Contains(readingOperations, op) {
		return nil
	}
	v := reflect.Indirect(reflect.ValueOf(input))
	if v.Kind() != reflect.Struct {
		return &Error{Reason: ReasonKeyNotPinned, Detail: fmt.Sprintf("can't tell which KMS key a %T names; nothing was sent", input)}
	}
	for _, name := range keyFields {
		field := v.FieldByName(name)
		if !field.IsValid() {
			continue
		}
		id, ok := field.Interface().(*string)
		switch {
		case !ok:
			return &Error{Reason: ReasonKeyNotPinned, Detail: fmt.Sprintf("%s is a %s; nothing was sent", name, field.Type())}
		case id == nil && name == "SourceKeyId":
			return &Error{Reason: ReasonKeyNotPinned, Detail: "the request names no source key, and KMS would take whatever key the ciphertext names: set SourceKeyId; nothing was sent"}
		case id == nil:
			continue // optional, or for KMS to refuse
		}
		if err := p.checkUse(*id); err != nil {
			return err
		}
	}
	return nil
}

// checkUse is checkRequest for requests whose harm is done once they are sent.
func (p pins) checkUse(id string) error {
	if !p.any && strings.Contains(id, "alias/") {
		return &Error{Reason: ReasonKeyNotPinned, KeyID: id,
			Detail: "an alias can be pointed to another key at any time, and this request may not reach another: name the key by its ARN; nothing was sent"}
	}
	return p.checkRequest(id)
}
