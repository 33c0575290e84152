package kmsclient

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// pins are the KMS keys that may be used.
type pins struct {
	keys   []pin // without duplicates
	any    bool
	region string // the call's, which a bare key ID is in
}

// pin is a key, by its whole ARN and by parts of it.
type pin struct{ arn, region, resource string }

func newPins(opts Options) (pins, error) {
	invalid := func(detail string) (pins, error) {
		return pins{}, &Error{Reason: ReasonInvalidOptions, Field: "Options.KeyIDs", Detail: detail}
	}
	switch {
	case opts.UnsafeAnyKey && len(opts.KeyIDs) > 0:
		return invalid("KeyIDs and UnsafeAnyKey contradict each other: set one")
	case opts.UnsafeAnyKey:
		return pins{any: true}, nil
	case len(opts.KeyIDs) == 0:
		return invalid("KeyIDs is empty: name the ARNs of the KMS keys that may respond, or else anyone's key may")
	}
	var p pins
	for _, id := range opts.KeyIDs {
		key, err := parsePin(id)
		if err != nil {
			return pins{}, err
		}
		if !p.has(id) {
			p.keys = append(p.keys, key)
		}
	}
	return p, nil
}

func parsePin(id string) (pin, error) {
	fail := func(detail string) (pin, error) {
		return pin{}, &Error{Reason: ReasonInvalidOptions, Field: "Options.KeyIDs", KeyID: id,
			Detail: fmt.Sprintf("%s: %s; KeyIDs takes full key ARNs: arn:<partition>:kms:<region>:<account>:key/<key ID>", quoteID(id), detail)}
	}
	a, err := arn.Parse(id)
	switch {
	case strings.Contains(id, "alias/"):
		return fail("an alias cannot be pinned, since it can be pointed to another key at any time")
	case err != nil:
		return fail("not an ARN: a bare key ID does not say in whose account the key is")
	case a.Service != "kms":
		return fail(fmt.Sprintf("an ARN of %.100q, not of kms", a.Service))
	case a.Partition == "" || a.Region == "":
		return fail("the ARN lacks its partition or region")
	case len(a.AccountID) != 12 || strings.Trim(a.AccountID, "0123456789") != "":
		return fail("the ARN's account is not 12 digits")
	case !strings.HasPrefix(a.Resource, "key/"):
		return fail("the ARN is not of a key")
	}
	if name := strings.TrimPrefix(a.Resource, "key/"); name == "" || strings.ContainsAny(name, "/:* \t\r\n") {
		return fail("the ARN's key ID is not one")
	}
	return pin{arn: id, region: a.Region, resource: a.Resource}, nil
}

// quoteID quotes what may be the ID of a key, whole unless it is longer than any.
func quoteID(id string) string { return fmt.Sprintf("%.*q", maxQuotedID, id) }

// keyPlace is the Field of an error about a KMS key.
func keyPlace(id string) string {
	if id == "" {
		return ""
	}
	return fmt.Sprintf("key %.*s", maxQuotedID, id)
}

func (p pins) has(id string) bool {
	return slices.ContainsFunc(p.keys, func(key pin) bool { return key.arn == id })
}

// only returns the pinned key if there is just one.
func (p pins) only() (string, bool) {
	if len(p.keys) != 1 {
		return "", false
	}
	return p.keys[0].arn, true
}

// in returns the pins of a call in the region. It refuses pins of which none is there:
// no response could satisfy them.
func (p pins) in(region string) (pins, error) {
	invalid := func(detail string) (pins, error) {
		return pins{}, &Error{Reason: ReasonInvalidOptions, Field: "aws.Config.Region", Detail: detail}
	}
	if region == "" {
		return invalid("no region: set it, since an enclave has nothing to take it from")
	}
	p.region = region
	if p.any || slices.ContainsFunc(p.keys, func(key pin) bool { return key.region == region }) {
		return p, nil
	}
	var arns []string
	for _, key := range p.keys {
		arns = append(arns, key.arn)
	}
	return invalid(fmt.Sprintf("the client's region is %.100q, and no pinned key is in it: %s", region, strings.Join(arns, ", ")))
}

// keyNotPinned makes the error for a request that is not sent.
func keyNotPinned(id, detail string) error {
	return &Error{Reason: ReasonKeyNotPinned, Field: keyPlace(id), KeyID: id, Detail: detail + "; nothing was sent"}
}

// checkRequest refuses an attested request for a key that cannot be a pinned one. For
// an alias only the response tells.
func (p pins) checkRequest(id string) error {
	if p.any || strings.Contains(id, "alias/") || p.has(id) {
		return nil
	}
	for _, key := range p.keys {
		if key.region == p.region && key.resource == "key/"+id {
			return nil
		}
	}
	return keyNotPinned(id, "the request names a KMS key that is not in Options.KeyIDs")
}

// checkUse is checkRequest for requests whose harm is done once they are sent.
func (p pins) checkUse(id string) error {
	if !p.any && strings.Contains(id, "alias/") {
		return keyNotPinned(id, "an alias can be pointed to another key at any time, and this request may not reach another: name the key by its ARN")
	}
	return p.checkRequest(id)
}

// checkResponse refuses a response from another key than the one asked for, and from
// one that is not pinned.
func (p pins) checkResponse(requested, responded string) error {
	var detail string
	switch {
	case responded == "":
		detail = "the response does not say which KMS key it is from"
	case strings.Contains(requested, ":key/") && requested != responded:
		detail = "the response is from this KMS key and the request was for " + quoteID(requested)
	case !p.any && !p.has(responded):
		detail = "the response is from a KMS key that is not in Options.KeyIDs"
	default:
		return nil
	}
	return &Error{Reason: ReasonResponseKey, Field: keyPlace(responded), KeyID: responded, Detail: detail}
}

// keyFields are the fields by which the SDK's inputs name KMS keys.
var keyFields = []string{"KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId"}

// readingOperations only read about a key and send nothing but its name. They may name
// any.
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

// checkInput refuses an input of an operation that is not attested if it names a key
// that is not pinned. Operations that are new in KMS are checked without being known
// here.
func (p pins) checkInput(op string, input any) error {
	if p.any || slices.Contains(readingOperations, op) {
		return nil
	}
	v := reflect.Indirect(reflect.ValueOf(input))
	if v.Kind() != reflect.Struct {
		return keyNotPinned("", fmt.Sprintf("a %T does not show which KMS key it names", input))
	}
	for _, name := range keyFields {
		field := v.FieldByName(name)
		if !field.IsValid() {
			continue
		}
		id, ok := field.Interface().(*string)
		switch {
		case !ok:
			return keyNotPinned("", fmt.Sprintf("%s is a %s", name, field.Type()))
		case id == nil && name == "SourceKeyId":
			return keyNotPinned("", "the request names no source key, and KMS would take whatever key the ciphertext names: set SourceKeyId")
		case id == nil:
			continue // optional, or for KMS to refuse
		}
		if err := p.checkUse(*id); err != nil {
			return err
		}
	}
	return nil
}
