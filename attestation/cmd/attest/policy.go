package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
)

const policySynopsis = `--measurement FILE --key-action ACTION [flags]

Prints a JSON array for the Statement element of a KMS key policy, with one
statement for each measurement, and one for equal ones. --eif FILE may stand for
--measurement.`

// recipientActions are the operations with a Recipient parameter, which alone
// can ask for an attestation document (AWS KMS API reference).
var recipientActions = []string{
	"kms:Decrypt", "kms:DeriveSharedSecret", "kms:GenerateDataKey", "kms:GenerateDataKeyPair", "kms:GenerateRandom",
}

// generateRandom uses no key, so that no key's policy is asked about it.
const generateRandom = "kms:GenerateRandom"

// placeholder is no ARN, so that KMS refuses a policy in which it was left.
const placeholder = "REPLACE-WITH-THE-ARN-OF-THE-INSTANCE-ROLE"

// principalARN is an IAM or STS principal's: no wildcards, which KMS does not
// take there.
var principalARN = regexp.MustCompile(`^arn:aws[a-z-]*:(iam|sts)::[0-9]{12}:(root|(role|user|assumed-role)/[A-Za-z0-9+=,.@_/-]+)$`)

// statement is a statement of a key policy (IAM user guide, "IAM JSON policy
// elements reference").
type statement struct {
	Sid       string
	Effect    string
	Principal map[string]string
	Action    []string
	Resource  string // "*": in a key policy, the key
	Condition map[string]map[string]string
}

func (p *program) policy(args []string) error {
	var images measurementFlags
	var actions []string
	principal, platform := placeholder, attestation.PlatformEnclave
	set := flagSet("policy")
	signer := set.Bool("signer", false, "allow what the image's signer signs, with the same kernel: PCR1 and PCR8 only, so that a new release needs no new policy")
	images.define(set, "allow what")
	set.Func("key-action", "`ACTION` to allow, one of "+strings.Join(recipientActions, ", ")+"; repeatable", func(s string) error {
		action, err := recipientAction(s)
		if err == nil && !slices.Contains(actions, action) {
			actions = append(actions, action)
		}
		return err
	})
	set.Func("principal", "`ARN` of the role of the enclave's parent instance; without it, a placeholder to replace", func(s string) error {
		if !principalARN.MatchString(s) {
			return errors.New("want the ARN of a role, such as arn:aws:iam::111122223333:role/app")
		}
		principal = s
		return nil
	})
	set.Func("platform", "the `PLATFORM` that the measurements are of, nitro-enclave or nitrotpm (default nitro-enclave)", func(s string) (err error) {
		platform, err = parsePlatform(s)
		return err
	})
	if err := p.parse(set, policySynopsis, args, 0); err != nil {
		return err
	}
	switch {
	case len(images.files) == 0:
		return errors.New("--measurement is missing, or --eif")
	case len(actions) == 0:
		return errors.New("--key-action is missing; there are " + strings.Join(recipientActions, ", "))
	}
	if err := images.read(); err != nil {
		return err
	}
	// What a verifier would not accept a key must not either.
	if _, err := attestation.NewVerifier(attestation.Policy{Measurements: images.measurements, Platform: platform}); err != nil {
		return errors.New(flagWords(err, "", ""))
	}
	if *signer {
		if err := images.onlySigner(platform); err != nil {
			return err
		}
	}

	var statements []statement
	for i, m := range images.measurements {
		equal := func(earlier attestation.Measurement) bool { return maps.Equal(earlier.PCRs, m.PCRs) }
		if first := slices.IndexFunc(images.measurements[:i], equal); first >= 0 {
			fmt.Fprintf(p.stderr, "note: one statement stands for %+q and %+q, whose conditions are equal\n", images.files[first], images.files[i])
			continue
		}
		statements = append(statements, allow(len(statements)+1, m, platform, principal, actions))
	}
	if err := p.writeJSON(statements); err != nil {
		return err
	}
	if principal == placeholder {
		fmt.Fprintf(p.stderr, "note: replace %s, or give --principal\n", placeholder)
	}
	if slices.Contains(actions, generateRandom) {
		fmt.Fprintf(p.stderr, "note: %s uses no key: put its statement, without Principal, in the role's own policy\n", generateRandom)
	}
	fmt.Fprintln(p.stderr, "note: this only allows; another statement that allows kms:* to the account lets its IAM policies pass by the attestation")
	return nil
}

// allow makes the statement of one measurement. Its registers must match
// together, and the values of several cannot be alternatives of each other in
// one Condition without accepting mixtures.
func allow(number int, m attestation.Measurement, platform attestation.Platform, principal string, actions []string) statement {
	prefix, sid := "kms:RecipientAttestation:PCR", "AttestedEnclave"
	if platform == attestation.PlatformNitroTPM {
		prefix, sid = "kms:RecipientAttestation:NitroTPMPCR", "AttestedInstance"
	}
	pcrs := map[string]string{}
	for index, value := range m.PCRs {
		pcrs[fmt.Sprintf("%s%d", prefix, index)] = value.String()
	}
	return statement{
		Sid:       fmt.Sprintf("%s%d", sid, number),
		Effect:    "Allow",
		Principal: map[string]string{"AWS": principal},
		Action:    actions,
		Resource:  "*",
		Condition: map[string]map[string]string{"StringEqualsIgnoreCase": pcrs},
	}
}

// recipientAction finds an action without regard to case, as IAM does.
func recipientAction(s string) (string, error) {
	for _, action := range recipientActions {
		if strings.EqualFold(action, s) {
			return action, nil
		}
	}
	return "", fmt.Errorf("takes no attestation document, so that the condition would never hold; those that do are %s", strings.Join(recipientActions, ", "))
}
