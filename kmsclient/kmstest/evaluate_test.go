package kmstest

import (
	"strings"
	"testing"
)

func TestOperators(t *testing.T) {
	const lower = "00ab"
	one := func(values ...string) []string { return values }
	absent := one()
	for _, test := range []struct {
		operator Operator
		values   []string
		key      []string // what the request has
		want     bool
	}{
		{StringEquals, one(lower), one(lower), true},
		{StringEquals, one("ff", lower), one(lower), true},
		{StringEquals, one("00AB"), one(lower), false},
		{StringEquals, one("00*"), one(lower), false},
		{StringEquals, one(lower), absent, false},
		{StringEquals, one(""), absent, false},
		{StringEquals, one(""), one(""), true},
		{StringEqualsIgnoreCase, one("00AB"), one(lower), true},
		{StringEqualsIgnoreCase, one("ff"), one(lower), false},
		{StringEqualsIgnoreCase, one("00AB"), absent, false},
		{StringLike, one("00*"), one(lower), true},
		{StringLike, one("ff", "?0a?"), one(lower), true},
		{StringLike, one("00A*"), one(lower), false},
		{StringLike, one("*"), absent, false},
		{StringNotEquals, one(lower), one(lower), false},
		{StringNotEquals, one("ff", lower), one(lower), false},
		{StringNotEquals, one("00AB"), one(lower), true},
		{StringNotEquals, one(lower), absent, true},
		{StringNotEqualsIgnoreCase, one("ff", "00AB"), one(lower), false},
		{StringNotEqualsIgnoreCase, one("ff"), one(lower), true},
		{StringNotEqualsIgnoreCase, one("ff"), absent, true},
		{StringNotLike, one("00*"), one(lower), false},
		{StringNotLike, one("ff", "00A*"), one(lower), true},
		{StringNotLike, one("*"), absent, true},
		{Null, one("true"), absent, true},
		{Null, one("true"), one(lower), false},
		{Null, one("false"), absent, false},
		{Null, one("false"), one(lower), true},
		{Null, one("false"), one("a", "b"), true},

		{StringEquals + IfExists, one(lower), absent, true},
		{StringEquals + IfExists, one(lower), one(lower), true},
		{StringEquals + IfExists, one(lower), one("ff"), false},
		{StringEqualsIgnoreCase + IfExists, one("00AB"), one(lower), true},
		{StringLike + IfExists, one("ff*"), one(lower), false},
		{StringNotEquals + IfExists, one(lower), absent, true},
		{StringNotEquals + IfExists, one(lower), one(lower), false},
		{StringNotLike + IfExists, one("f*"), one(lower), true},

		{ForAllValues + StringEquals, one("a", "b", "c"), one("a", "b"), true},
		{ForAllValues + StringEquals, one("a", "b"), one("a", "b", "c"), false},
		{ForAllValues + StringEquals, one("a"), absent, true},
		{ForAllValues + StringNotEquals, one("a"), one("b", "c"), true},
		{ForAllValues + StringNotEquals, one("a"), one("a", "c"), false},
		{ForAllValues + StringLike, one("a*", "?"), one("abc", "b"), true},
		{ForAllValues + StringEquals + IfExists, one("a"), absent, true},
		{ForAnyValue + StringEquals, one("a", "x"), one("a", "b"), true},
		{ForAnyValue + StringEquals, one("x", "y"), one("a", "b"), false},
		{ForAnyValue + StringEquals, one("a"), absent, false},
		{ForAnyValue + StringNotEquals, one("a"), one("a", "b"), true},
		{ForAnyValue + StringNotEquals, one("a"), one("a"), false},
		{ForAnyValue + StringNotEquals, one("a"), absent, false},
		{ForAnyValue + StringEquals + IfExists, one("a"), absent, true},
		{ForAnyValue + StringEquals + IfExists, one("a"), one("b"), false},

		{"NumericEquals", one(lower), one(lower), false},
	} {
		condition := Condition{Operator: test.operator, Values: test.values}
		if got := condition.holds(test.key); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
}

func TestUnknownOperators(t *testing.T) {
	for _, operator := range []Operator{
		"", IfExists, ForAllValues, ForAllValues + IfExists, Null + IfExists, ForAnyValue + Null, ForAllValues + ForAnyValue + StringEquals,
		StringEquals + IfExists + IfExists, "stringequals", "ForAllValues" + StringEquals, "NumericEquals", "Bool", "ArnLike", "BinaryEquals",
	} {
		if parsed, ok := parseOperator(operator); ok {
			t.Errorf("%q is parsed as %+v", operator, parsed)
		}
	}
}

func TestWildcards(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"kms:*", "kms:decrypt", true},
		{"*", "kms:decrypt", true},
		{"kms:decrypt", "kms:decrypt", true},
		{"kms:decrypt", "kms:decryptx", false},
		{"kms:decrypt?", "kms:decrypt", false},
		{"kms:d?crypt", "kms:decrypt", true},
		{"kms:generatedatakey*", "kms:generatedatakey", true},
		{"kms:generatedatakey*", "kms:generaterandom", false},
		{"kms:*key*pair", "kms:generatedatakeypair", true},
		{"kms:*key*pairs", "kms:generatedatakeypair", false},
		{"?", "é", true},
		{"??", "é", false},
		{"*é?", "caféx", true},
		{"", "", true},
		{"*", "", true},
		{"?", "", false},
		{strings.Repeat("*a", 30) + "b", strings.Repeat("a", 200), false},
	} {
		if got := matchWildcards(test.pattern, test.text); got != test.want {
			t.Errorf("%q matches %q: %t", test.pattern, test.text, got)
		}
	}
}

// A policy that parses can be evaluated, and if each Allow asks for a PCR, it
// allows nothing without a recipient.
func FuzzParsePolicy(f *testing.F) {
	image := strings.Repeat("0f", 48)
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"` + image + `"}}}]}`))
	f.Add([]byte(`{"Version":"2012-10-17","Id":"a","Statement":{"Sid":"b","Effect":"Deny","Principal":{"AWS":["*","111122223333"]},"Action":["kms:Decrypt"],"Resource":["*"],"Condition":{"Null":{"kms:RecipientAttestation:PCR31":"true"}}}}`))
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[]}`))
	f.Add([]byte(`{"a":[[[[{"b":1e9,"b":null}]]]]}`))
	who, err := newCaller("arn:aws:iam::111122223333:role/enclave", false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		policy, err := ParsePolicy(document)
		if err != nil {
			if policy != nil {
				t.Fatal("a policy beside an error")
			}
			return
		}
		if err := policy.clone().check(""); err != nil {
			t.Fatalf("a parsed policy does not pass the check: %v", err)
		}
		fenced := true
		for _, statement := range policy.Statements {
			if statement.Effect != Allow {
				continue
			}
			asks := false
			for _, condition := range statement.Conditions {
				asks = asks || condition.Operator == StringEquals || condition.Operator == StringEqualsIgnoreCase
			}
			fenced = fenced && asks
		}
		verdict, why := policy.decide(&who, "kms:Decrypt", nil)
		if fenced && verdict == allowed {
			t.Fatal("allowed without a recipient")
		}
		if (verdict == allowed) != (why == "") {
			t.Fatalf("verdict %d with the explanation %q", verdict, why)
		}
	})
}
