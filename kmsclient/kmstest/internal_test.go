package kmstest

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// This file tests, from inside, what the outside cannot reach: single
// operators, wildcards, and the parsers under fuzzing.

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

// Two contexts that read the same when run together must not be the same.
func TestAdditionalDataIsUnambiguous(t *testing.T) {
	contexts := []map[string]string{
		nil, {"a": "b", "c": "d"}, {"a": "bcd"}, {"ab": "cd"}, {"a": "", "b": ""}, {"a": "b"}, {"": "ab"}, {"ab": ""}, {"c": "d", "a": "B"},
	}
	seen := map[string]int{}
	for i, context := range contexts {
		data := string(additionalData([]byte("header"), context))
		if j, ok := seen[data]; ok {
			t.Errorf("contexts %v and %v have the same additional data", contexts[j], context)
		}
		seen[data] = i
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
		if err := policy.clone().check(); err != nil {
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

// A blob that parses is within bounds and names a well-formed key; only what a
// key sealed opens, and only unchanged.
func FuzzBlob(f *testing.F) {
	server, err := newServer(Options{})
	if err != nil {
		f.Fatal(err)
	}
	arn, err := server.CreateKey(KeyOptions{})
	if err != nil {
		f.Fatal(err)
	}
	k, failure := server.findKey(arn)
	if failure != nil {
		f.Fatal(failure.message)
	}
	sealed := k.seal([]byte("secret"), map[string]string{"a": "b"})
	f.Add(sealed)
	f.Add(sealed[:blobOverhead])
	f.Add([]byte(blobMagic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		id, ok := parseBlob(blob)
		if !ok {
			return
		}
		if !keyIDForm.MatchString(id) || len(blob) < blobOverhead || len(blob) > maxBlobLength {
			t.Fatalf("a blob of %d bytes names the key %q", len(blob), id)
		}
		plaintext, failure := k.open(blob, map[string]string{"a": "b"})
		if (failure == nil) != bytes.Equal(blob, sealed) || failure != nil && plaintext != nil {
			t.Fatalf("opened to %q, %v", plaintext, failure)
		}
	})
}

// A header that parses has every part, within bounds, and an error is always
// one of the two codes for a header.
func FuzzParseAuthorization(f *testing.F) {
	signature := strings.Repeat("0a", 32)
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/kms/aws4_request, SignedHeaders=content-type;host;x-amz-date, Signature=" + signature)
	f.Add("AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/kms/aws4_request,SignedHeaders=host,Signature=" + signature)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host;host, Signature=")
	f.Add("Basic dXNlcjpwYXNz")
	f.Add("")
	f.Fuzz(func(t *testing.T, header string) {
		auth, failure := parseAuthorization(header)
		if failure != nil {
			if auth != nil || failure.code != codeIncompleteSignature && failure.code != codeInvalidSignature {
				t.Fatalf("got %+v, %+v", auth, failure)
			}
			return
		}
		if len(header) > maxAuthorizationLength || len(auth.signature) != 32 || len(auth.signedHeaders) == 0 ||
			auth.accessKeyID == "" || strings.Count(auth.scope(), "/") != 3 || !strings.HasSuffix(auth.scope(), "/aws4_request") {
			t.Fatalf("parsed to %+v", auth)
		}
		rebuilt := signatureAlgorithm + " Credential=" + auth.accessKeyID + "/" + auth.scope() +
			", SignedHeaders=" + strings.Join(auth.signedHeaders, ";") + ", Signature=" + strings.Repeat("00", 32)
		if again, failure := parseAuthorization(rebuilt); failure != nil && len(rebuilt) <= maxAuthorizationLength || failure == nil && again.scope() != auth.scope() {
			t.Fatalf("%q does not parse again: %+v", rebuilt, failure)
		}
	})
}

func TestSkewBoundary(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, skew := range []time.Duration{-maxClockSkew, 0, maxClockSkew} {
		if failure := checkSkew(now.Add(skew), now); failure != nil {
			t.Errorf("%s: %s", skew, failure.message)
		}
	}
	for _, skew := range []time.Duration{-maxClockSkew - time.Second, maxClockSkew + time.Second} {
		if checkSkew(now.Add(skew), now) == nil {
			t.Errorf("%s is accepted", skew)
		}
	}
}
