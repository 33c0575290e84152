package kmstest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	accountID    = regexp.MustCompile(`^[0-9]{12}$`)
	roleARN      = regexp.MustCompile(`^arn:(aws[a-z-]{0,20}):iam::([0-9]{12}):role/(?:[\w+=,.@/-]{1,512}/)?([\w+=,.@-]{1,64})$`)
	principalARN = regexp.MustCompile(`^arn:aws[a-z-]{0,20}:(?:iam::[0-9]{12}:(?:root|(?:role|user)/[\w+=,.@/-]{1,512})|sts::[0-9]{12}:assumed-role/[\w+=,.@/-]{1,512})$`)
)

// sessionName is the name of the caller's assumed-role session. On EC2 it is
// the instance ID.
const sessionName = "i-0123456789abcdef0"

// caller is the identity behind the server's credentials.
type caller struct {
	partition  string
	account    string
	role       string // the role's ARN
	session    string // the assumed-role session's ARN, as error messages show
	withoutIAM bool
}

func newCaller(role string, withoutIAM bool) (caller, error) {
	match := roleARN.FindStringSubmatch(role)
	if match == nil {
		return caller{}, optionError("NewServer", "RoleARN", "%.200q is not an IAM role's ARN, such as arn:aws:iam::111122223333:role/enclave", role)
	}
	partition, account, name := match[1], match[2], match[3]
	return caller{
		partition:  partition,
		account:    account,
		role:       role,
		session:    fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", partition, account, name, sessionName),
		withoutIAM: withoutIAM,
	}, nil
}

func (c *caller) root() string { return fmt.Sprintf("arn:%s:iam::%s:root", c.partition, c.account) }

// is reports whether a policy's principal is this caller. byAccount says that
// the principal is the caller's account, so that an Allow needs the caller's
// IAM policies too.
func (c *caller) is(principal string) (match, byAccount bool) {
	switch principal {
	case "*", c.role, c.session:
		return true, false
	case c.account, c.root():
		return true, true
	}
	return false, false
}

// decision is what a key policy says of one request.
type decision int

const (
	notAllowed    decision = iota // no statement allows it
	allowed                       // allowed, and no statement denies it
	denied                        // a Deny applies
	notAllowedIAM                 // the policy leaves it to IAM, where nothing allows it
)

// decide evaluates the policy. why explains a refusal, statement by statement.
func (p *Policy) decide(who *caller, action string, keys conditionKeys) (verdict decision, why string) {
	var reasons []string
	for i, statement := range p.Statements {
		name := "statement " + statement.name(i)
		if !statement.names(action) {
			continue
		}
		match, byAccount := statement.covers(who)
		if !match {
			reasons = append(reasons, name+" is for other principals")
			continue
		}
		if ambiguous := statement.ambiguous(keys); ambiguous != "" {
			return notAllowed, fmt.Sprintf("%s: the encryption context has more than one value for %s, and kmstest cannot tell which of them KMS takes", name, ambiguous)
		}
		if unmet := statement.unmet(keys); unmet != "" {
			if statement.Effect == Allow {
				reasons = append(reasons, name+": "+unmet)
			}
			continue
		}
		switch {
		case statement.Effect == Deny:
			return denied, name + " denies it"
		case !byAccount || !who.withoutIAM:
			verdict = allowed
		case verdict == notAllowed:
			verdict = notAllowedIAM
			reasons = append(reasons, name+" leaves it to the caller's IAM policies, of which there are none")
		}
	}
	if verdict == allowed {
		return allowed, ""
	}
	if reasons == nil {
		return verdict, "no statement of the key policy names " + action
	}
	return verdict, strings.Join(reasons, "; ")
}

func (s *Statement) names(action string) bool {
	return slices.ContainsFunc(s.Actions, func(pattern string) bool {
		return matchWildcards(strings.ToLower(pattern), strings.ToLower(action))
	})
}

func (s *Statement) covers(who *caller) (match, byAccount bool) {
	for _, principal := range s.Principals {
		m, account := who.is(principal)
		if m && !account {
			return true, false
		}
		match = match || m
	}
	return match, match
}

func (s *Statement) ambiguous(keys conditionKeys) string {
	for _, condition := range s.Conditions {
		if keys.ambiguous(condition.Key) {
			return condition.Key
		}
	}
	return ""
}

// unmet says which condition does not hold, "" if all do.
func (s *Statement) unmet(keys conditionKeys) string {
	for _, condition := range s.Conditions {
		values := keys[strings.ToLower(condition.Key)]
		if condition.holds(values) {
			continue
		}
		text := "absent"
		if len(values) > 0 {
			text = shorten(strings.Join(slices.Sorted(slices.Values(values)), ", "))
		}
		return fmt.Sprintf("%s %s %v, but it is %s", condition.Key, condition.Operator, condition.Values, text)
	}
	return ""
}

// matchWildcards matches text against a pattern with * (any run) and ? (any
// one character), in time proportional to the product of the lengths.
func matchWildcards(pattern, text string) bool {
	want, have := []rune(pattern), []rune(text)
	p, t, star, mark := 0, 0, -1, 0
	for t < len(have) {
		switch {
		case p < len(want) && want[p] == '*':
			star, mark = p, t
			p++
		case p < len(want) && (want[p] == '?' || want[p] == have[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(string(want[p:]), "*") == ""
}

// authorize judges a request for a key by the key's policy, and one without a
// key (GenerateRandom) by the caller's IAM policies.
func (c *call) authorize(k *key) *apiError {
	who := &c.server.caller
	action := "kms:" + c.operation
	subject := fmt.Sprintf("User: %s is not authorized to perform: %s", who.session, action)
	verdict, why := notAllowedIAM, "the caller has no IAM policies"
	if k != nil {
		subject += " on resource: " + k.arn
		verdict, why = k.policy.decide(who, action, c.conditionKeys())
	} else if !who.withoutIAM {
		verdict = allowed
	}
	var because string
	switch verdict {
	case allowed:
		return nil
	case denied:
		because = "with an explicit deny in a resource-based policy"
	case notAllowedIAM:
		because = "because no identity-based policy allows the " + action + " action"
	default:
		because = "because no resource-based policy allows the " + action + " action"
	}
	failure := newAPIError(codeAccessDenied, "%s %s", subject, because)
	failure.detail = why
	return failure
}
