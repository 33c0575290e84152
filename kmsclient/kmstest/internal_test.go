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
	for _, test := range []struct {
		operator Operator
		values   []string
		value    string
		present  bool
		want     bool
	}{
		{StringEquals, []string{lower}, lower, true, true},
		{StringEquals, []string{"ff", lower}, lower, true, true},
		{StringEquals, []string{"00AB"}, lower, true, false},
		{StringEquals, []string{lower}, "", false, false},
		{StringEquals, []string{""}, "", false, false},
		{StringEqualsIgnoreCase, []string{"00AB"}, lower, true, true},
		{StringEqualsIgnoreCase, []string{"ff"}, lower, true, false},
		{StringEqualsIgnoreCase, []string{"00AB"}, "", false, false},
		{StringNotEquals, []string{lower}, lower, true, false},
		{StringNotEquals, []string{"00AB"}, lower, true, true},
		{StringNotEquals, []string{lower}, "", false, true},
		{StringNotEqualsIgnoreCase, []string{"ff", "00AB"}, lower, true, false},
		{StringNotEqualsIgnoreCase, []string{"ff"}, lower, true, true},
		{Null, []string{"true"}, "", false, true},
		{Null, []string{"true"}, lower, true, false},
		{Null, []string{"false"}, "", false, false},
		{Null, []string{"false"}, lower, true, true},
		{"StringLike", []string{lower}, lower, true, false},
	} {
		condition := Condition{Operator: test.operator, Values: test.values}
		if got := condition.holds(test.value, test.present); got != test.want {
			t.Errorf("%+v: %t", test, got)
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
