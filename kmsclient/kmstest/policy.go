package kmstest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Effect is what a [Statement] does when it applies.
type Effect string

const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Policy is a key policy: who may do what with a key, under which conditions.
// It is evaluated as KMS does: a Deny that applies wins, then an Allow that
// applies, and what no statement allows is denied.
//
// Make one with [AllowAttested], [ParsePolicy] or as a literal; CreateKey
// checks it.
type Policy struct {
	Statements []Statement
}

// Statement is one statement of a [Policy]. It applies to a request whose
// caller is one of Principals, whose action is one of Actions and which meets
// every condition.
type Statement struct {
	// Sid names the statement in [Request] details. Optional.
	Sid    string
	Effect Effect
	// Principals are role ARNs, assumed-role session ARNs, "*" for everyone, or
	// an account ("arn:aws:iam::111122223333:root" or the twelve digits), which
	// hands the decision to the caller's own IAM policies: see
	// [Options].WithoutIAMPermissions.
	Principals []string
	// Actions are names such as "kms:Decrypt", without regard to case; * and ?
	// are wildcards.
	Actions    []string
	Conditions []Condition
}

// AllowAttested is the policy most keys of enclaves have: everyone in reach may
// encrypt and describe, and what yields a plaintext is allowed only to a
// recipient that meets every condition. There is no form without a condition,
// for that would allow everyone everything.
func AllowAttested(condition Condition, more ...Condition) *Policy {
	return &Policy{Statements: []Statement{
		{
			Sid: "AllowAttestedEnclave", Effect: Allow, Principals: []string{"*"},
			Actions:    []string{"kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:DeriveSharedSecret"},
			Conditions: append([]Condition{condition}, more...),
		},
		{
			Sid: "AllowEncrypt", Effect: Allow, Principals: []string{"*"},
			Actions: []string{"kms:Encrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey", "kms:GetPublicKey"},
		},
	}}
}

// defaultPolicy is the policy KMS gives a key that is created without one: the
// account, by its IAM policies, may do everything.
func defaultPolicy(account string) *Policy {
	return &Policy{Statements: []Statement{{
		Sid: "Enable IAM User Permissions", Effect: Allow, Principals: []string{account}, Actions: []string{"kms:*"},
	}}}
}

// clone makes the key's policy independent of the caller's value.
func (p *Policy) clone() *Policy {
	copied := &Policy{Statements: slices.Clone(p.Statements)}
	for i := range copied.Statements {
		s := &copied.Statements[i]
		s.Principals, s.Actions = slices.Clone(s.Principals), slices.Clone(s.Actions)
		s.Conditions = slices.Clone(s.Conditions)
		for j := range s.Conditions {
			s.Conditions[j].Values = slices.Clone(s.Conditions[j].Values)
		}
	}
	return copied
}

func policyError(op, field, format string, args ...any) *Error {
	return &Error{Op: op, Reason: ReasonInvalidPolicy, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// check refuses everything this package would not evaluate as KMS does: better
// no key than a key whose policy means something else than in production.
func (p *Policy) check(op string) error {
	if len(p.Statements) == 0 {
		return policyError(op, "", "the policy has no statement")
	}
	for i, statement := range p.Statements {
		if err := statement.check(); err != nil {
			return policyError(op, "statement "+statement.name(i), "%s", err)
		}
	}
	return nil
}

func (s *Statement) check() error {
	switch {
	case s.Effect != Allow && s.Effect != Deny:
		return fmt.Errorf("the Effect is %q, want %q or %q", s.Effect, Allow, Deny)
	case len(s.Principals) == 0:
		return fmt.Errorf(`no Principal; "*" means everyone`)
	case len(s.Actions) == 0:
		return fmt.Errorf(`no Action; "kms:*" means every action`)
	}
	for _, principal := range s.Principals {
		if principal != "*" && !accountID.MatchString(principal) && !principalARN.MatchString(principal) {
			return fmt.Errorf("the Principal %q is not %q, a twelve-digit account, or the ARN of an account's root, a role, a user or an assumed-role session", principal, "*")
		}
	}
	for _, action := range s.Actions {
		if action != "*" && (len(action) < 5 || !strings.EqualFold(action[:4], "kms:")) {
			return fmt.Errorf("the Action %q does not begin with %q", action, "kms:")
		}
	}
	for _, condition := range s.Conditions {
		if err := condition.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Statement) name(index int) string {
	if s.Sid != "" {
		return strconv.Quote(s.Sid)
	}
	return strconv.Itoa(index)
}
