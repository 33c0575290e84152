package kmstest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"go.uber.org/goleak"
)

// testClock is a clock that a test sets while the server reads it.
type testClock struct{ nanoseconds atomic.Int64 }

// TestMain has the server take prepared RSA keys, and looks for goroutines that
// outlive their test.
func TestMain(m *testing.M) {
	rsakey.Generate = testkeys.Next
	goleak.VerifyTestMain(m)
}

func newClock(at time.Time) *testClock {
	c := &testClock{}
	c.nanoseconds.Store(at.UnixNano())
	return c
}

func (c *testClock) now() time.Time        { return time.Unix(0, c.nanoseconds.Load()).UTC() }
func (c *testClock) move(by time.Duration) { c.nanoseconds.Add(int64(by)) }

func newServer(t testing.TB, options kmstest.Options) *kmstest.Server {
	t.Helper()
	server, err := kmstest.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// newClient is the real SDK client, without retries so that each call is one
// request.
func newClient(server *kmstest.Server, optFns ...func(*kms.Options)) *kms.Client {
	return kms.NewFromConfig(server.Config(), append([]func(*kms.Options){func(o *kms.Options) {
		o.HTTPClient = server.Client()
		o.Retryer = aws.NopRetryer{}
	}}, optFns...)...)
}

func createKey(t testing.TB, server *kmstest.Server, options kmstest.KeyOptions) string {
	t.Helper()
	arn, err := server.CreateKey(options)
	if err != nil {
		t.Fatal(err)
	}
	return arn
}

// wantCode fails the test unless err is the API error code with a message that
// contains text, or is empty if text is.
func wantCode(t testing.TB, err error, code, text string) {
	t.Helper()
	var apiErr smithy.APIError
	if !errors.As(err, &apiErr) {
		t.Fatalf("error is %v, want an API error %s", err, code)
	}
	if apiErr.ErrorCode() != code {
		t.Errorf("code is %s (%s), want %s", apiErr.ErrorCode(), apiErr.ErrorMessage(), code)
	}
	if got := apiErr.ErrorMessage(); !strings.Contains(got, text) || text == "" && got != "" {
		t.Errorf("%s: message is %q, want %q", code, got, text)
	}
}

func last(t testing.TB, server *kmstest.Server) kmstest.Request {
	t.Helper()
	requests := server.Requests()
	if len(requests) == 0 {
		t.Fatal("no request is recorded")
	}
	return requests[len(requests)-1]
}

func TestNewServerRefusesOptions(t *testing.T) {
	for name, options := range map[string]kmstest.Options{
		"region":      {Region: "nowhere"},
		"host name":   {HostNames: []string{"KMS example"}},
		"empty name":  {HostNames: []string{""}},
		"credentials": {Credentials: aws.Credentials{AccessKeyID: "AKIDEXAMPLE"}},
		"role":        {RoleARN: "arn:aws:iam::111122223333:user/someone"},
		"form":        {EnvelopeForm: 7},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := kmstest.NewServer(options)
			var e *kmstest.Error
			if server != nil || !errors.As(err, &e) || e.Reason != kmstest.ReasonInvalidOptions {
				t.Errorf("got %v, %v", server, err)
			}
		})
	}
}

func TestCreateKeyRefusesOptions(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	createKey(t, server, kmstest.KeyOptions{Alias: "alias/taken"})
	for name, test := range map[string]struct {
		options kmstest.KeyOptions
		reason  kmstest.Reason
	}{
		"spec":         {kmstest.KeyOptions{Spec: "ECC_SECG_P256K1"}, kmstest.ReasonInvalidOptions},
		"alias form":   {kmstest.KeyOptions{Alias: "taken"}, kmstest.ReasonInvalidOptions},
		"alias of AWS": {kmstest.KeyOptions{Alias: "alias/aws/ebs"}, kmstest.ReasonInvalidOptions},
		"alias taken":  {kmstest.KeyOptions{Alias: "alias/taken"}, kmstest.ReasonInvalidOptions},
		"empty policy": {kmstest.KeyOptions{Policy: &kmstest.Policy{}}, kmstest.ReasonInvalidPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			arn, err := server.CreateKey(test.options)
			var e *kmstest.Error
			if arn != "" || !errors.As(err, &e) || e.Reason != test.reason {
				t.Errorf("got %q, %v", arn, err)
			}
		})
	}
	var e *kmstest.Error
	if err := server.SetKeyEnabled("alias/none", false); !errors.As(err, &e) || e.Reason != kmstest.ReasonUnknownKey {
		t.Errorf("SetKeyEnabled of an unknown key: %v", err)
	}
}

// The three ways in that the documentation promises.
func TestReachable(t *testing.T) {
	server := newServer(t, kmstest.Options{Region: "eu-central-1"})
	arn := createKey(t, server, kmstest.KeyOptions{})
	if !strings.HasPrefix(arn, "arn:aws:kms:eu-central-1:111122223333:key/") {
		t.Errorf("ARN is %s", arn)
	}
	if got := aws.ToString(server.Config().BaseEndpoint); got != "https://kms.eu-central-1.amazonaws.com" {
		t.Errorf("base endpoint is %s", got)
	}
	dialing := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "kms.eu-central-1.amazonaws.com:443" {
				t.Errorf("dialed for %s", address)
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", server.Addr())
		},
	}}
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.RootCAs()}}}
	defer dialing.CloseIdleConnections()
	defer plain.CloseIdleConnections()
	for name, option := range map[string]func(*kms.Options){
		"Client":            func(o *kms.Options) { o.HTTPClient = server.Client() },
		"Addr and RootCAs":  func(o *kms.Options) { o.HTTPClient = dialing },
		"URL and RootCAs":   func(o *kms.Options) { o.HTTPClient, o.BaseEndpoint = plain, aws.String(server.URL()) },
		"localhost is fine": func(o *kms.Options) { o.HTTPClient, o.BaseEndpoint = plain, localhost(server) },
	} {
		t.Run(name, func(t *testing.T) {
			out, err := newClient(server, option).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(out.KeyMetadata.Arn) != arn {
				t.Errorf("described %s", aws.ToString(out.KeyMetadata.Arn))
			}
		})
	}
}

func localhost(server *kmstest.Server) *string {
	_, port, _ := net.SplitHostPort(server.Addr())
	return aws.String("https://localhost:" + port)
}

func TestPartitions(t *testing.T) {
	for region, want := range map[string]string{
		"cn-north-1":    "https://kms.cn-north-1.amazonaws.com.cn arn:aws-cn:kms:cn-north-1:111122223333:key/",
		"us-gov-west-1": "https://kms.us-gov-west-1.amazonaws.com arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/",
	} {
		server := newServer(t, kmstest.Options{Region: region})
		arn := createKey(t, server, kmstest.KeyOptions{})
		if got := *server.Config().BaseEndpoint + " " + arn; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s", region, got)
		}
		if _, err := newClient(server).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn}); err != nil {
			t.Errorf("%s: %v", region, err)
		}
	}
}

func TestTLS(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	for name, config := range map[string]*tls.Config{
		"other roots":     {ServerName: "localhost"},
		"other host name": {ServerName: "kms.eu-west-1.amazonaws.com", RootCAs: server.RootCAs()},
		"TLS 1.1":         {ServerName: "localhost", RootCAs: server.RootCAs(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
		"another's roots": {ServerName: "localhost", RootCAs: newServer(t, kmstest.Options{}).RootCAs()},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", server.Addr(), config)
			if err == nil {
				conn.Close()
				t.Error("the handshake succeeded")
			}
		})
	}
}

func TestCloseCutsConnections(t *testing.T) {
	server, err := kmstest.NewServer(kmstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := newClient(server).GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	server.Close()
	server.Close()
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlived Close")
	}
	if _, err := newClient(server).GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}); err == nil {
		t.Error("a request succeeded after Close")
	}
}

func TestRequestsAreBounded(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	post := func() {
		response, err := server.Client().Post(server.URL()+"/", "application/x-amz-json-1.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	for range kmstest.MaxRecordedRequests {
		post()
	}
	first := server.Requests()[0]
	post()
	requests := server.Requests()
	if len(requests) != kmstest.MaxRecordedRequests {
		t.Errorf("%d requests are recorded", len(requests))
	}
	if requests[0].RequestID == first.RequestID || first.RequestID == "" {
		t.Error("the oldest request is still there")
	}
}

// What is refused before any signature is looked at.
func TestNotKMS(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	for name, test := range map[string]struct {
		method, path, target string
		body                 []byte
		status               int
		code                 string
	}{
		"GET":               {"GET", "/", "TrentService.Decrypt", nil, 404, "UnknownOperationException"},
		"path":              {"POST", "/x", "TrentService.Decrypt", nil, 404, "UnknownOperationException"},
		"query":             {"POST", "/?a=b", "TrentService.Decrypt", nil, 404, "UnknownOperationException"},
		"no target":         {"POST", "/", "", nil, 400, "UnknownOperationException"},
		"other service":     {"POST", "/", "DynamoDB_20120810.Decrypt", nil, 400, "UnknownOperationException"},
		"unknown operation": {"POST", "/", "TrentService.ScheduleKeyDeletion", nil, 400, "UnknownOperationException"},
		"too long":          {"POST", "/", "TrentService.Decrypt", make([]byte, kmstest.MaxRequestBody+1), 413, "RequestEntityTooLargeException"},
		"unsigned":          {"POST", "/", "TrentService.Decrypt", []byte("{}"), 400, "MissingAuthenticationTokenException"},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL()+test.path, bytes.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Amz-Target", test.target)
			request.Header.Set("Content-Type", "application/x-amz-json-1.1")
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || !strings.Contains(string(body), `"__type":"`+test.code+`"`) {
				t.Errorf("answer is %d %s", response.StatusCode, body)
			}
			got := last(t, server)
			if id := response.Header.Get("x-amzn-RequestId"); id == "" || got.RequestID != id || got.ErrorCode != test.code {
				t.Errorf("recorded %+v, x-amzn-RequestId is %q", got, id)
			}
		})
	}
}

func TestClockIsReadAtEveryRequest(t *testing.T) {
	clock := newClock(time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC))
	server := newServer(t, kmstest.Options{Clock: clock.now})
	for range 2 {
		response, err := server.Client().Post(server.URL()+"/", "application/x-amz-json-1.1", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got, want := response.Header.Get("Date"), clock.now().Format(http.TimeFormat); got != want {
			t.Errorf("Date is %s, want %s", got, want)
		}
		clock.move(time.Hour)
	}
}

// A client that refuses the certificate leaves nothing in the test's output.
func TestNothingIsLogged(t *testing.T) {
	var written bytes.Buffer
	log.SetOutput(&written)
	defer log.SetOutput(os.Stderr)
	server := newServer(t, kmstest.Options{})
	if _, err := tls.Dial("tcp", server.Addr(), &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}); err == nil {
		t.Fatal("an unknown root was accepted")
	}
	server.Close() // and wait for the connection's end
	if written.Len() > 0 {
		t.Errorf("logged %q", &written)
	}
}
