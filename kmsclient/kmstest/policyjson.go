package kmstest

import (
	"fmt"
	"maps"
	"slices"
)

const policyVersion = "2012-10-17"

// ParsePolicy reads a key policy as KMS takes it, so that a test can use the
// very document that guards the production key.
//
// It takes Version (2012-10-17), Id, and Statement with Sid, Effect, Principal
// ("*" or AWS), Action, Resource ("*") and Condition with the operators and
// condition keys of [Condition]. Anything else, such as NotAction, a Service
// principal or another condition key, is an *[Error] with the reason
// [ReasonInvalidPolicy] that names what is not supported: a statement that was
// skipped would make the key's policy another than KMS's. So is a Condition that
// is there but holds no condition (null, {} or {"StringEquals": {}}). What it
// takes is not thereby safe: see "What a policy must not allow" in the package's
// documentation.
func ParsePolicy(document []byte) (*Policy, error) {
	if len(document) > MaxPolicySize {
		return nil, policyError("ParsePolicy", "", "the document has %d bytes, the limit is %d", len(document), MaxPolicySize)
	}
	members, err := parseObject(document)
	if err != nil {
		return nil, policyError("ParsePolicy", "", "the document is not valid JSON: %v", err)
	}
	if err := only(members, "Version", "Id", "Statement"); err != nil {
		return nil, policyError("ParsePolicy", "", "%v", err)
	}
	if _, ok := members["Id"].(string); members["Id"] != nil && !ok {
		return nil, policyError("ParsePolicy", "Id", "not a string")
	}
	if version, ok := members["Version"].(string); !ok || version != policyVersion {
		return nil, policyError("ParsePolicy", "Version", "must be %q", policyVersion)
	}
	list, ok := members["Statement"].([]any)
	if !ok {
		list = []any{members["Statement"]} // a single statement needs no list
	}
	policy := &Policy{}
	for i, element := range list {
		statement, err := parseStatement(element)
		if err != nil {
			return nil, policyError("ParsePolicy", "statement "+statement.name(i), "%v", err)
		}
		policy.Statements = append(policy.Statements, statement)
	}
	if err := policy.check("ParsePolicy"); err != nil {
		return nil, err
	}
	return policy, nil
}

func parseStatement(element any) (statement Statement, err error) {
	members, ok := element.(object)
	if !ok {
		return statement, fmt.Errorf("it is not a JSON object")
	}
	if statement.Sid, ok = members["Sid"].(string); !ok && members["Sid"] != nil {
		return statement, fmt.Errorf("the Sid is not a string")
	}
	if err := only(members, "Sid", "Effect", "Principal", "Action", "Resource", "Condition"); err != nil {
		return statement, err
	}
	effect, ok := members["Effect"].(string)
	if !ok {
		return statement, fmt.Errorf("the Effect is not a string")
	}
	statement.Effect = Effect(effect)
	if statement.Principals, err = parsePrincipal(members["Principal"]); err != nil {
		return statement, err
	}
	if statement.Actions, err = textList("Action", members["Action"]); err != nil {
		return statement, err
	}
	resources, err := textList("Resource", members["Resource"])
	if err != nil {
		return statement, err
	}
	if !slices.Equal(resources, []string{"*"}) {
		return statement, fmt.Errorf(`the Resource is %.100q; in a key policy it is "*", which means the key itself`, resources)
	}
	if condition, present := members["Condition"]; present {
		statement.Conditions, err = parseConditions(condition)
	}
	return statement, err
}

func parsePrincipal(value any) ([]string, error) {
	if value == "*" {
		return []string{"*"}, nil
	}
	members, ok := value.(object)
	if !ok {
		return nil, fmt.Errorf(`the Principal is neither "*" nor an object`)
	}
	if err := only(members, "AWS"); err != nil {
		return nil, fmt.Errorf("in Principal: %w", err)
	}
	return textList("Principal.AWS", members["AWS"])
}

// parseConditions refuses a Condition without conditions: it is what a template
// leaves whose measurements were not filled in, and an Allow to everyone.
func parseConditions(value any) ([]Condition, error) {
	members, ok := value.(object)
	if !ok {
		return nil, fmt.Errorf("the Condition is not an object")
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("the Condition is empty; leave it out if the statement is to have none")
	}
	var conditions []Condition
	for _, operator := range slices.Sorted(maps.Keys(members)) {
		keys, ok := members[operator].(object)
		if !ok {
			return nil, fmt.Errorf("condition %.100q is not an object", operator)
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("condition %.100q names no condition key", operator)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			values, err := textList(key, keys[key])
			if err != nil {
				return nil, err
			}
			conditions = append(conditions, Condition{Operator: Operator(operator), Key: key, Values: values})
		}
	}
	return conditions, nil
}

// textList reads what the policy language writes as one string or as a list.
func textList(name string, value any) ([]string, error) {
	switch v := value.(type) {
	case string:
		return []string{v}, nil
	case []any:
		list := make([]string, 0, len(v))
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil, fmt.Errorf("%.100s has an element that is not a string", name)
			}
			list = append(list, text)
		}
		return list, nil
	case nil:
		return nil, fmt.Errorf("%.100s is missing", name)
	}
	return nil, fmt.Errorf("%.100s is neither a string nor a list of strings", name)
}

func only(members object, names ...string) error {
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%.100q is not supported; supported are %v", name, names)
		}
	}
	return nil
}
