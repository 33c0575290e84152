package sigv4

import (
	"strings"
	"testing"
	"time"
)

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
			if auth != nil || failure.Code != codeIncompleteSignature && failure.Code != codeInvalidSignature {
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
			t.Errorf("%s: %s", skew, failure.Message)
		}
	}
	for _, skew := range []time.Duration{-maxClockSkew - time.Second, maxClockSkew + time.Second} {
		if checkSkew(now.Add(skew), now) == nil {
			t.Errorf("%s is accepted", skew)
		}
	}
}
