package kmsclient

import (
	"fmt"
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
	switch {
	case opts.UnsafeAnyKey && len(opts.KeyIDs) > 0:
		return pins{}, &Error{Reason: ReasonInvalidOptions, Detail: "KeyIDs and UnsafeAnyKey contradict each other: set one"}
	case opts.UnsafeAnyKey:
		return pins{any: true}, nil
	case len(opts.KeyIDs) == 0:
		return pins{}, &Error{Reason: ReasonInvalidOptions,
			Detail: "KeyIDs is empty: name the ARNs of the KMS keys that may answer, or else anyone's key may"}
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
		return pin{}, &Error{Reason: ReasonInvalidOptions, KeyID: id, Detail: detail +
			"; KeyIDs takes full key ARNs: arn:<partition>:kms:<region>:<account>:key/<key ID>"}
	}
	a, err := arn.Parse(id)
	switch {
	case strings.Contains(id, "alias/"):
		return fail("an alias can't be pinned, since it can be pointed to another key at any time")
	case err != nil:
		return fail("not an ARN: a bare key ID doesn't say in whose account the key is")
	case a.Service != "kms":
		return fail(fmt.Sprintf("an ARN of %q, not of kms", a.Service))
	case a.Partition == "" || a.Region == "":
		return fail("the ARN lacks its partition or region")
	case len(a.AccountID) != 12 || strings.Trim(a.AccountID, "0123456789") != "":
		return fail("the ARN's account isn't 12 digits")
	case !strings.HasPrefix(a.Resource, "key/"):
		return fail("the ARN isn't of a key")
	}
	if name := strings.TrimPrefix(a.Resource, "key/"); name == "" || strings.ContainsAny(name, "/:* \t\r\n") {
		return fail("the ARN's key ID isn't one")
	}
	return pin{arn: id, region: a.Region, resource: a.Resource}, nil
}

func (p pins) has(id string) bool {
	for _, key := range p.keys {
		if key.arn == id {
			return true
		}
	}
	return false
}

// only returns the pinned key if there is just one.
func (p pins) only() (string, bool) {
	if len(p.keys) != 1 {
		return "", false
	}
	return p.keys[0].arn, true
}

// in returns the pins of a call in the region. It refuses those that no answer
// from there can satisfy.
func (p pins) in(region string) (pins, error) {
	if region == "" {
		return pins{}, &Error{Reason: ReasonInvalidOptions, Detail: "no region: set the aws.Config's Region, an enclave has nothing to take it from"}
	}
	p.region = region
	if p.any {
		return p, nil
	}
	for _, key := range p.keys {
		if key.region == region {
			return p, nil
		}
	}
	var arns []string
	for _, key := range p.keys {
		arns = append(arns, key.arn)
	}
	return pins{}, &Error{Reason: ReasonInvalidOptions, KeyID: strings.Join(arns, ", "),
		Detail: fmt.Sprintf("the client's region is %q, and no pinned key is in it", region)}
}

// checkRequest refuses an attested request for a key that can't be a pinned
// one. For an alias only the answer tells.
func (p pins) checkRequest(id string) error {
	if p.any || strings.Contains(id, "alias/") || p.has(id) {
		return nil
	}
	for _, key := range p.keys {
		if key.region == p.region && key.resource == "key/"+id {
			return nil
		}
	}
	return &Error{Reason: ReasonKeyNotPinned, KeyID: id,
		Detail: "the request names a KMS key that isn't among Options.KeyIDs; nothing was sent"}
}

// checkAnswer refuses an answer from another key than the one asked for, and
// from one that isn't pinned.
func (p pins) checkAnswer(requested, answered string) error {
	var detail string
	switch {
	case answered == "":
		detail = "the answer doesn't say which KMS key it is from"
	case strings.Contains(requested, ":key/") && requested != answered:
		detail = "the answer is from this KMS key and the request was for " + requested
	case !p.any && !p.has(answered):
		detail = "the answer is from a KMS key that isn't among Options.KeyIDs"
	default:
		return nil
	}
	return &Error{Reason: ReasonAnswerKey, KeyID: answered, Detail: detail}
}
