package kmstest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

const clientBody = `{"NumberOfBytes":16}`

// signed is a request for GenerateRandom as the SDK's signer signs it. The body
// that is sent may be another than the signed one.
func signed(t *testing.T, server *kmstest.Server, credentials aws.Credentials, service, region string, at time.Time, prepare func(*http.Request)) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL()+"/", strings.NewReader(clientBody))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", "TrentService.GenerateRandom")
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if prepare != nil {
		prepare(request)
	}
	hash := sha256.Sum256([]byte(clientBody))
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, request, hex.EncodeToString(hash[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
	return request
}

// send posts a body to the server with a valid signature.
func send(t *testing.T, server *kmstest.Server, operation, body string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL()+"/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", "TrentService."+operation)
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	credentials, err := server.Config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, request, hex.EncodeToString(hash[:]), "kms", "us-east-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestSignature(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	clock := newClock(now)
	server := newServer(t, kmstest.Options{
		Credentials: aws.Credentials{AccessKeyID: "ASIAEXAMPLE", SecretAccessKey: "secret", SessionToken: "token",
			CanExpire: true, Expires: now.Add(time.Hour)},
		Clock: clock.now,
	})
	credentials, err := server.Config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const mismatch = "The request signature we calculated does not match the signature you provided."
	type edit = func(*http.Request)
	authorization := func(old, new string) edit {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		}
	}
	header := func(name, value string) edit {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		credentials     func(*aws.Credentials)
		service, region string
		skew            time.Duration
		before, after   edit
		code, text      string
	}{
		"right":                 {},
		"right, spaces":         {before: header("X-Amz-Meta-Note", "  a   b "), code: ""},
		"5 minutes slow":        {skew: -5 * time.Minute},
		"5 minutes fast":        {skew: 5 * time.Minute},
		"more than 5 min. slow": {skew: -5*time.Minute - time.Second, code: "InvalidSignatureException", text: "Signature expired: " + now.Add(-5*time.Minute-time.Second).Format("20060102T150405Z") + " is now earlier than " + now.Add(-5*time.Minute).Format("20060102T150405Z") + " (" + now.Format("20060102T150405Z") + " - 5 min.)"},
		"more than 5 min. fast": {skew: 5*time.Minute + time.Second, code: "InvalidSignatureException", text: "Signature not yet current: "},
		"wrong secret":          {credentials: func(c *aws.Credentials) { c.SecretAccessKey = "other" }, code: "InvalidSignatureException", text: mismatch},
		"unknown access key":    {credentials: func(c *aws.Credentials) { c.AccessKeyID = "AKIAOTHER" }, code: "UnrecognizedClientException", text: "The security token included in the request is invalid."},
		"wrong token":           {credentials: func(c *aws.Credentials) { c.SessionToken = "other" }, code: "UnrecognizedClientException", text: "The security token included in the request is invalid."},
		"no token":              {credentials: func(c *aws.Credentials) { c.SessionToken = "" }, code: "UnrecognizedClientException", text: "The security token included in the request is invalid."},
		"other region":          {region: "eu-west-1", code: "InvalidSignatureException", text: "Credential should be scoped to a valid region, not 'eu-west-1'."},
		"other service":         {service: "sts", code: "InvalidSignatureException", text: "Credential should be scoped to correct service: 'kms'."},
		"other scope date":      {after: authorization(now.Format("/20060102/"), "/20200101/"), code: "InvalidSignatureException", text: "Date in Credential scope does not match"},
		"other terminator":      {after: authorization("aws4_request", "aws5_request"), code: "InvalidSignatureException", text: "valid terminator"},
		"changed target":        {after: header("X-Amz-Target", "TrentService.DescribeKey"), code: "InvalidSignatureException", text: mismatch},
		"changed signed header": {before: header("X-Other", "a"), after: header("X-Other", "b"), code: "InvalidSignatureException", text: mismatch},
		"changed host":          {after: func(r *http.Request) { r.Host = "kms.us-east-1.amazonaws.com" }, code: "InvalidSignatureException", text: mismatch},
		"changed body": {after: func(r *http.Request) {
			r.Body = io.NopCloser(bytes.NewReader([]byte(strings.Replace(clientBody, "16", "17", 1))))
		}, code: "InvalidSignatureException", text: mismatch},
		"unsigned X-Amz header": {after: header("X-Amz-Other", "a"), code: "InvalidSignatureException", text: "'X-Amz-Other' must be a 'SignedHeader' in the AWS Authorization."},
		"host not signed":       {after: authorization(";host;", ";"), code: "InvalidSignatureException", text: "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		"changed signature": {after: func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-64]+strings.Repeat("0", 64))
		}, code: "InvalidSignatureException", text: mismatch},
		"no Authorization":  {after: func(r *http.Request) { r.Header.Del("Authorization") }, code: "MissingAuthenticationTokenException", text: "Missing Authentication Token"},
		"two":               {after: func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256") }, code: "IncompleteSignatureException", text: "2 Authorization headers"},
		"other algorithm":   {after: authorization("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), code: "IncompleteSignatureException", text: "Unsupported AWS 'algorithm'"},
		"no X-Amz-Date":     {after: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, code: "IncompleteSignatureException", text: "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		"X-Amz-Date form":   {after: header("X-Amz-Date", "today"), code: "IncompleteSignatureException", text: "Date must be in ISO-8601 'basic format'. Got 'today'."},
		"no Credential":     {after: authorization("Credential=", "Credential"), code: "IncompleteSignatureException", text: "not a valid key=value pair (missing equal-sign) in Authorization header"},
		"short Credential":  {after: authorization("/aws4_request", ""), code: "IncompleteSignatureException", text: "Credential must have exactly 5 slash-delimited elements"},
		"no SignedHeaders":  {after: authorization("SignedHeaders=", "Other="), code: "IncompleteSignatureException", text: "Authorization header requires 'SignedHeaders' parameter."},
		"no Signature":      {after: authorization("Signature=", "Signature=&"), code: "IncompleteSignatureException", text: "'Signature'"},
		"bad content type":  {before: header("Content-Type", "application/json"), code: "SerializationException", text: "Content-Type"},
		"not the operation": {before: header("X-Amz-Target", "TrentService.Encrypt"), code: "ValidationException", text: "Value null at 'plaintext'"},
	} {
		t.Run(name, func(t *testing.T) {
			with := credentials
			if test.credentials != nil {
				test.credentials(&with)
			}
			service, region := "kms", "us-east-1"
			if test.service != "" {
				service = test.service
			}
			if test.region != "" {
				region = test.region
			}
			request := signed(t, server, with, service, region, now.Add(test.skew), test.before)
			if test.after != nil {
				test.after(request)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if test.code == "" {
				if response.StatusCode != 200 || !strings.Contains(string(body), `"Plaintext":`) {
					t.Errorf("answer is %d %s", response.StatusCode, body)
				}
				return
			}
			if response.StatusCode != 400 || !strings.Contains(string(body), `"__type":"`+test.code+`"`) || !strings.Contains(string(body), test.text) {
				t.Errorf("answer is %d %s, want %s: %s", response.StatusCode, body, test.code, test.text)
			}
			if strings.Contains(string(body), "token\"") || strings.Contains(string(body), "secret\"") {
				t.Errorf("the answer repeats a credential: %s", body)
			}
		})
	}
	t.Run("expired credentials", func(t *testing.T) {
		clock.move(time.Hour)
		response, err := server.Client().Do(signed(t, server, credentials, "kms", "us-east-1", clock.now(), nil))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := last(t, server).ErrorCode; got != "ExpiredTokenException" {
			t.Errorf("code is %q", got)
		}
	})
}

func TestSDKWithWrongCredentials(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	input := &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)}
	right, err := server.Config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	with := func(edit func(*aws.Credentials)) func(*kms.Options) {
		return func(o *kms.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				credentials := right
				edit(&credentials)
				return credentials, nil
			})
		}
	}
	_, err = newClient(server, with(func(c *aws.Credentials) { c.AccessKeyID += "X" })).GenerateRandom(t.Context(), input)
	wantCode(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
	_, err = newClient(server, with(func(c *aws.Credentials) { c.SecretAccessKey += "x" })).GenerateRandom(t.Context(), input)
	wantCode(t, err, "InvalidSignatureException", "The request signature we calculated does not match")
	_, err = newClient(server, func(o *kms.Options) { o.Region = "eu-west-1" }).GenerateRandom(t.Context(), input)
	wantCode(t, err, "InvalidSignatureException", "Credential should be scoped to a valid region")
	if _, err := newClient(server, with(func(*aws.Credentials) {})).GenerateRandom(t.Context(), input); err != nil {
		t.Errorf("the right credentials: %v", err)
	}
}

// A client whose clock is wrong fails once, reads the server's Date and gets
// through, as with KMS.
func TestSDKCorrectsItsClock(t *testing.T) {
	server := newServer(t, kmstest.Options{Clock: func() time.Time { return time.Now().Add(time.Hour) }})
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	if _, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)}); err != nil {
		t.Fatal(err)
	}
	requests := server.Requests()
	if len(requests) != 2 || requests[0].ErrorCode != "InvalidSignatureException" || requests[1].ErrorCode != "" {
		t.Errorf("requests are %+v", requests)
	}

	_, err := newClient(server).GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)})
	wantCode(t, err, "InvalidSignatureException", "Signature expired: ")
}

// A client whose clock is wrong, told by moving the server's: the SDK learns the
// time from the refusal's Date header and signs its next attempt by it.
func TestClockSkew(t *testing.T) {
	for name, skew := range map[string]time.Duration{"client slow": time.Hour, "client fast": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			server := newServer(t, kmstest.Options{Clock: func() time.Time { return time.Now().Add(skew) }})
			if _, err := random(t, server, retrying); err != nil {
				t.Fatal(err)
			}
			requests := server.Requests()
			if len(requests) != 2 || requests[0].ErrorCode != "InvalidSignatureException" || requests[1].ErrorCode != "" {
				t.Errorf("recorded %+v", requests)
			}
			_, err := random(t, server) // one attempt
			wantCode(t, err, "InvalidSignatureException", "Signature ")
		})
	}
}
