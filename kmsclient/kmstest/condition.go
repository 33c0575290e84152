package kmstest

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
)

// Operator compares a condition key's value with the values of a [Condition]
// (IAM User Guide, "IAM JSON policy elements: Condition operators").
//
// IfExists may be added to each but Null, as in StringEquals + IfExists, and a
// key with several values takes ForAllValues or ForAnyValue in front, as in
// ForAnyValue + StringEquals.
type Operator string

const (
	// StringEquals: the key is present and equal to one of the values, with
	// regard to case. KMS presents PCRs in lower-case hexadecimal, so an
	// upper-case value never matches.
	StringEquals Operator = "StringEquals"
	// StringEqualsIgnoreCase: as StringEquals, without regard to case. AWS's
	// own examples use it.
	StringEqualsIgnoreCase Operator = "StringEqualsIgnoreCase"
	// StringLike: as StringEquals, but in the values * stands for any run of
	// characters, also of none, and ? for any one.
	StringLike Operator = "StringLike"
	// StringNotEquals: the key is absent, or equal to none of the values.
	StringNotEquals Operator = "StringNotEquals"
	// StringNotEqualsIgnoreCase: as StringNotEquals, without regard to case.
	StringNotEqualsIgnoreCase Operator = "StringNotEqualsIgnoreCase"
	// StringNotLike: the key is absent, or like none of the values.
	StringNotLike Operator = "StringNotLike"
	// Null: with the value "true", the key is absent; with "false", present.
	Null Operator = "Null"

	// IfExists, at the end of an operator, makes the condition hold where the
	// key is absent. In an Allow that asks for a PCR it opens the key to
	// callers without an enclave.
	IfExists Operator = "IfExists"
	// ForAllValues, in front of an operator, asks that each of the key's values
	// meets it. It holds where the key is absent, too.
	ForAllValues Operator = "ForAllValues:"
	// ForAnyValue, in front of an operator, asks that one of the key's values
	// meets it. It does not hold where the key is absent.
	ForAnyValue Operator = "ForAnyValue:"
)

const (
	attestationKeyPrefix = "kms:RecipientAttestation:"
	// ImageSha384 is the condition key for the enclave image's measurement,
	// PCR0. The keys for single PCRs are "kms:RecipientAttestation:PCR0" to
	// "kms:RecipientAttestation:PCR31". (KMS Developer Guide, "Condition keys
	// for Nitro Enclaves".)
	ImageSha384 = attestationKeyPrefix + "ImageSha384"
	// EncryptionContextKeys is the condition key for the names in the request's
	// encryption context: several values, absent without an encryption context.
	// The value under a name is the condition key "kms:EncryptionContext:" and
	// the name, in which case does not count, as in all condition keys. (KMS
	// Developer Guide, "AWS KMS condition keys".)
	EncryptionContextKeys   = "kms:EncryptionContextKeys"
	encryptionContextPrefix = "kms:EncryptionContext:"

	maxPCRIndex    = 31
	maxTPMPCRIndex = 23
	pcrHexLength   = 96 // SHA-384
)

// pcrKeys are the prefixes of the condition keys for single PCRs.
var pcrKeys = []struct {
	prefix   string
	maxIndex int
}{
	{attestationKeyPrefix + "PCR", maxPCRIndex},
	{attestationKeyPrefix + "NitroTPMPCR", maxTPMPCRIndex},
}

// Condition compares one condition key with values, any of which may match.
type Condition struct {
	Operator Operator
	// Key is ImageSha384, kms:RecipientAttestation:PCR<n> (0 to 31),
	// kms:RecipientAttestation:NitroTPMPCR<n> (0 to 23), EncryptionContextKeys
	// or kms:EncryptionContext:<name>.
	Key string
	// Values are 96 hexadecimal digits each for a PCR, with wildcards for
	// StringLike and StringNotLike; "true" or "false" for Null; names or values
	// of an encryption context. Policy variables (${…}) are not supported.
	Values []string
}

// PCREquals is the condition that the recipient's PCR has this value: 48 bytes,
// index 0 to 31. Index 0 is the same as the condition key [ImageSha384].
func PCREquals(index int, value attestation.PCR) Condition {
	return Condition{
		Operator: StringEqualsIgnoreCase,
		Key:      attestationKeyPrefix + "PCR" + strconv.Itoa(index),
		Values:   []string{value.String()},
	}
}

// EncryptionContextEquals is the condition that the request's encryption
// context has this value under this name. Other names may be there, too.
func EncryptionContextEquals(name, value string) Condition {
	return Condition{Operator: StringEquals, Key: encryptionContextPrefix + name, Values: []string{value}}
}

// operator is an Operator in its parts.
type operator struct {
	set        Operator // ForAllValues, ForAnyValue or ""
	ignoreCase bool
	wildcards  bool
	negated    bool
	null       bool
	ifExists   bool
}

var operators = map[Operator]operator{
	StringEquals:              {},
	StringEqualsIgnoreCase:    {ignoreCase: true},
	StringLike:                {wildcards: true},
	StringNotEquals:           {negated: true},
	StringNotEqualsIgnoreCase: {negated: true, ignoreCase: true},
	StringNotLike:             {negated: true, wildcards: true},
	Null:                      {null: true},
}

func parseOperator(o Operator) (parsed operator, ok bool) {
	rest := string(o)
	var set Operator
	for _, prefix := range []Operator{ForAllValues, ForAnyValue} {
		if after, found := strings.CutPrefix(rest, string(prefix)); found {
			rest, set = after, prefix
			break
		}
	}
	rest, ifExists := strings.CutSuffix(rest, string(IfExists))
	parsed, ok = operators[Operator(rest)]
	if parsed.null && (set != "" || ifExists) {
		return operator{}, false
	}
	parsed.set, parsed.ifExists = set, ifExists
	return parsed, ok
}

var pcrPattern = regexp.MustCompile(`^[0-9a-fA-F*?]+$`)

func (c *Condition) check() error {
	op, ok := parseOperator(c.Operator)
	if !ok {
		return fmt.Errorf("condition operator %q is not supported; supported are Null and the String operators, the latter also with IfExists behind and %s or %s in front", c.Operator, ForAllValues, ForAnyValue)
	}
	kind := conditionKeyKind(c.Key)
	switch {
	case kind == unknownKey:
		return fmt.Errorf("condition key %q is not supported; supported are %s, %sPCR<n> with n from 0 to %d, %sNitroTPMPCR<n> with n from 0 to %d, %s and %s<name>", c.Key,
			ImageSha384, attestationKeyPrefix, maxPCRIndex, attestationKeyPrefix, maxTPMPCRIndex, EncryptionContextKeys, encryptionContextPrefix)
	case kind == contextNamesKey && op.set == "" && !op.null:
		return fmt.Errorf("condition key %q has several values: its operator needs %s or %s in front", c.Key, ForAllValues, ForAnyValue)
	case kind != contextNamesKey && op.set != "":
		return fmt.Errorf("condition key %q has one value: KMS takes no %s with it", c.Key, op.set)
	case len(c.Values) == 0:
		return fmt.Errorf("condition key %q has no value to compare with", c.Key)
	}
	for _, value := range c.Values {
		switch {
		case op.null:
			if value != "true" && value != "false" || len(c.Values) > 1 {
				return fmt.Errorf(`condition key %q: Null takes one value, "true" or "false"`, c.Key)
			}
		case kind == pcrKey && !op.couldBePCR(value):
			return fmt.Errorf("condition key %q: value %.100q is not a PCR in hexadecimal, %d digits; it can never match", c.Key, value, pcrHexLength)
		case strings.Contains(value, "${"):
			return fmt.Errorf("condition key %q: value %.100q has a policy variable, which is not supported", c.Key, value)
		}
	}
	return nil
}

func (o operator) couldBePCR(value string) bool {
	if !o.wildcards {
		_, err := hex.DecodeString(value)
		return err == nil && len(value) == pcrHexLength
	}
	shortest := len(value) - strings.Count(value, "*")
	return pcrPattern.MatchString(value) && (shortest == pcrHexLength || shortest < pcrHexLength && shortest < len(value))
}

type keyKind int

const (
	unknownKey      keyKind = iota
	pcrKey                  // a measurement
	contextNamesKey         // EncryptionContextKeys
	contextValueKey         // the value under one name
)

// conditionKeyKind compares condition keys without regard to case, as IAM does.
func conditionKeyKind(name string) keyKind {
	lower := strings.ToLower(name)
	switch lower {
	case strings.ToLower(ImageSha384):
		return pcrKey
	case strings.ToLower(EncryptionContextKeys):
		return contextNamesKey
	}
	if after, found := strings.CutPrefix(lower, strings.ToLower(encryptionContextPrefix)); found && after != "" {
		return contextValueKey
	}
	for _, key := range pcrKeys {
		digits, found := strings.CutPrefix(lower, strings.ToLower(key.prefix))
		index, err := strconv.Atoi(digits)
		if found && err == nil && index >= 0 && index <= key.maxIndex && strconv.Itoa(index) == digits {
			return pcrKey
		}
	}
	return unknownKey
}

// conditionKeys are a request's condition keys, in lower case, and their
// values. A key that is not there is absent.
type conditionKeys map[string][]string

func (k conditionKeys) add(name, value string) {
	name = strings.ToLower(name)
	k[name] = append(k[name], value)
}

// ambiguous is a condition key that has one value in KMS, and more than one
// here: two names of the encryption context differ by case alone. KMS does not
// say which of them it takes.
func (k conditionKeys) ambiguous(name string) bool {
	return conditionKeyKind(name) == contextValueKey && len(k[strings.ToLower(name)]) > 1
}

// conditionKeys collects what the request shows to the key's policy.
func (c *call) conditionKeys() conditionKeys {
	keys := conditionKeys{}
	for name, value := range c.context {
		keys.add(EncryptionContextKeys, name)
		keys.add(encryptionContextPrefix+name, value)
	}
	if c.recipient != nil {
		c.recipient.addMeasurements(keys)
	}
	return keys
}

// holds takes the key's values, none if it is absent.
func (c *Condition) holds(values []string) bool {
	op, ok := parseOperator(c.Operator)
	switch {
	case !ok:
		return false // unreachable: check refuses other operators
	case op.null:
		return (len(values) > 0) == (c.Values[0] == "false")
	case len(values) == 0 && op.ifExists:
		return true
	case op.set == ForAnyValue:
		return slices.ContainsFunc(values, func(value string) bool { return op.meets(value, c.Values) })
	case op.set == ForAllValues:
		return !slices.ContainsFunc(values, func(value string) bool { return !op.meets(value, c.Values) })
	case len(values) == 0:
		return op.negated
	}
	return op.meets(values[0], c.Values)
}

// meets compares one value of the request with all of the condition.
func (o operator) meets(value string, wanted []string) bool {
	equal := slices.ContainsFunc(wanted, func(want string) bool {
		switch {
		case o.wildcards:
			return matchWildcards(want, value)
		case o.ignoreCase:
			return strings.EqualFold(want, value)
		}
		return want == value
	})
	return equal != o.negated
}
