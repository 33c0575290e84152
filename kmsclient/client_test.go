package kmsclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

func TestNewRefuses(t *testing.T) {
	good := Options{KeyIDs: []string{keyA}}
	noRegion := testConfig()
	noRegion.Region = ""
	noCredentials := testConfig()
	noCredentials.Credentials = nil
	otherRegion := testConfig()
	otherRegion.Region = "us-east-1"
	tests := []struct {
		name     string
		cfg      aws.Config
		attester Attester
		opts     Options
		optFns   []func(*kms.Options)
		detail   string
	}{
		{"no attester", testConfig(), nil, good, nil, "attester"},
		{"nil attester of some type", testConfig(), (*fakeAttester)(nil), good, nil, "attester"},
		{"zero options", testConfig(), &fakeAttester{}, Options{}, nil, "KeyIDs is empty"},
		{"any key and pinned ones", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, UnsafeAnyKey: true}, nil, "contradict"},
		{"key of 1024 bits", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, KeyBits: 1024}, nil, "KeyBits"},
		{"key of 2049 bits", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, KeyBits: 2049}, nil, "KeyBits"},
		{"negative key size", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, KeyBits: -1}, nil, "KeyBits"},
		{"rotation without a unit", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, RotateEvery: 3600}, nil, "3.6µs"},
		{"rotation too often", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, RotateEvery: time.Minute - 1}, nil, "at least 1m0s"},
		{"negative rotation", testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, RotateEvery: -time.Hour}, nil, "RotateEvery"},
		{"no region", noRegion, &fakeAttester{}, good, nil, "no region"},
		{"no credentials", noCredentials, &fakeAttester{}, good, nil, "no credentials"},
		{"region of no pinned key", otherRegion, &fakeAttester{}, good, nil, `"us-east-1"`},
		{"an option sets the HTTP client", testConfig(), &fakeAttester{}, good,
			[]func(*kms.Options){func(o *kms.Options) { o.HTTPClient = awshttp.NewBuildableClient() }}, "HTTPClient"},
		{"an option sets the HTTP client to nil", testConfig(), &fakeAttester{}, good,
			[]func(*kms.Options){func(o *kms.Options) { o.HTTPClient = nil }}, "HTTPClient"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client, err := New(t.Context(), test.cfg, test.attester, test.opts, test.optFns...)
			e := wantError(t, err, "New", ReasonInvalidOptions)
			if client != nil || !strings.Contains(e.Error(), test.detail) {
				t.Errorf("client %v, error %v", client, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if client, err := New(ctx, testConfig(), &fakeAttester{}, good); client != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context: client %v, error %v", client, err)
	}
}

// The region may come from an option, and pinned replicas in other regions are
// no fault.
func TestNewRegion(t *testing.T) {
	cfg := testConfig()
	cfg.Region = ""
	newTestClient(t, cfg, &fakeAttester{}, Options{KeyIDs: []string{strings.Replace(keyB, region, "us-east-1", 1), keyB}},
		func(o *kms.Options) { o.Region = region })
}

// A client of cfg's own is replaced, and cfg stays as it was.
func TestConfigHTTPClient(t *testing.T) {
	s := newStub(t, honest(t))
	cfg := testConfig()
	theirs := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("cfg.HTTPClient was used")
		return nil, errors.New("no")
	})}
	cfg.HTTPClient = theirs
	client := newTestClient(t, cfg, &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots})
	if _, err := client.Decrypt(t.Context(), decryptInput); err != nil {
		t.Error(err)
	}
	if cfg.HTTPClient != aws.HTTPClient(theirs) {
		t.Error("cfg changed")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestKeyBits(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		s := newStub(t, honest(t))
		client, _ := s.client(t, func(o *Options) { o.KeyBits = bits })
		out, err := client.Decrypt(t.Context(), decryptInput)
		if err != nil || string(out.Plaintext) != "plaintext" {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestAttesterFails(t *testing.T) {
	sentinel := errors.New("the device is gone")
	for _, test := range []struct {
		name string
		edit func([]byte, error) ([]byte, error)
		want Reason
	}{
		{"error", func([]byte, error) ([]byte, error) { return nil, sentinel }, ReasonAttestation},
		{"document beside an error", func(d []byte, _ error) ([]byte, error) { return d, sentinel }, ReasonAttestation},
		{"no document", func([]byte, error) ([]byte, error) { return nil, nil }, ReasonDocumentSize},
		{"document too large", func([]byte, error) ([]byte, error) { return make([]byte, MaxDocumentSize+1), nil }, ReasonDocumentSize},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStub(t, honest(t))
			client, attester := s.client(t)
			attester.edit = test.edit
			out, err := client.Decrypt(t.Context(), decryptInput)
			wantError(t, err, "Decrypt", test.want)
			if test.want == ReasonAttestation && !errors.Is(err, sentinel) {
				t.Errorf("error %v hides the attester's", err)
			}
			if out != nil || len(s.seen()) != 0 {
				t.Errorf("output %v, %d requests", out, len(s.seen()))
			}
		})
	}
	t.Run("largest document", func(t *testing.T) {
		s := newStub(t, func(r stubRequest) (int, any) {
			if n := len(r.document(t)); n != MaxDocumentSize {
				t.Errorf("document of %d bytes", n)
			}
			return fails("ValidationException")
		})
		client, attester := s.client(t)
		attester.edit = func([]byte, error) ([]byte, error) { return make([]byte, MaxDocumentSize), nil }
		_, err := client.Decrypt(t.Context(), decryptInput)
		wantError(t, err, "Decrypt", ReasonKMS)
	})
}

// Each attempt has a document of its own.
func TestRetries(t *testing.T) {
	attempt := 0
	s := newStub(t, nil)
	s.answer = func(r stubRequest) (int, any) {
		attempt++
		if attempt < 3 {
			return http.StatusInternalServerError, object{"__type": "KMSInternalException"}
		}
		return honest(t)(r)
	}
	attester := &fakeAttester{}
	client := newTestClient(t, testConfig(), attester, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}, withRetries)
	out, err := client.Decrypt(t.Context(), decryptInput)
	if err != nil || string(out.Plaintext) != "plaintext" {
		t.Fatal(err)
	}
	seen := s.seen()
	if len(seen) != 3 || attester.calls() != 3 {
		t.Fatalf("%d requests, %d documents", len(seen), attester.calls())
	}
	for i, r := range seen {
		if d := r.document(t); d[len(d)-1] != byte(i+1) {
			t.Errorf("attempt %d has document %d", i+1, d[len(d)-1])
		}
		if r.text("CiphertextBlob") == "" || r.text("KeyId") != keyA {
			t.Errorf("attempt %d lost fields: %v", i+1, r.body)
		}
	}
}

// withRetries makes retries without waiting.
func withRetries(o *kms.Options) {
	o.RetryMaxAttempts = 3
	o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
		r.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

// What is refused is refused once: nothing of ours makes the SDK retry.
func TestNoRetriesOfRefusals(t *testing.T) {
	s := newStub(t, func(r stubRequest) (int, any) { return http.StatusOK, object{"KeyId": keyA, "Plaintext": []byte("p")} })
	attester := &fakeAttester{}
	client := newTestClient(t, testConfig(), attester, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}, withRetries)
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonPlaintextInResponse)
	attester.edit = func([]byte, error) ([]byte, error) { return nil, errors.New("no") }
	_, err = client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonAttestation)
	if len(s.seen()) != 1 || attester.calls() != 2 {
		t.Errorf("%d requests, %d documents", len(s.seen()), attester.calls())
	}
}

func TestKMSErrors(t *testing.T) {
	for code, test := range map[string]struct {
		reason Reason
		hint   string
	}{
		"AccessDeniedException":                  {ReasonAccessDenied, "key policy"},
		"InvalidCiphertextException":             {ReasonKMS, "encryption context"},
		"DisabledException":                      {ReasonKMS, ""},
		"UnrecognizedClientException":            {ReasonKMS, "credentials"},
		"SomethingNewException":                  {ReasonKMS, ""},
		"com.amazonaws.kms#NotFoundException":    {ReasonKMS, ""},
		"com.amazon.coral#ExpiredTokenException": {ReasonKMS, "expired"},
	} {
		t.Run(code, func(t *testing.T) {
			s := newStub(t, func(stubRequest) (int, any) { return fails(code) })
			client, _ := s.client(t)
			out, err := client.Decrypt(t.Context(), decryptInput)
			if out != nil {
				t.Error("an output beside an error")
			}
			e := wantError(t, err, "Decrypt", test.reason)
			if e.KeyID != keyA || !strings.Contains(e.Detail, test.hint) {
				t.Errorf("error %v", err)
			}
			var api smithy.APIError
			var operation *smithy.OperationError
			if !errors.As(err, &api) || !strings.HasSuffix(code, api.ErrorCode()) || !errors.As(err, &operation) {
				t.Errorf("the SDK's errors are hidden: %v", err)
			}
			var disabled *types.DisabledException
			if got := errors.As(err, &disabled); got != (code == "DisabledException") {
				t.Errorf("errors.As to *types.DisabledException: %v", got)
			}
		})
	}
}

// A dry run that would have succeeded is told by the SDK's error alone.
func TestDryRun(t *testing.T) {
	s := newStub(t, func(r stubRequest) (int, any) {
		if r.body["DryRun"] != true {
			t.Error("DryRun was dropped")
		}
		return http.StatusPreconditionFailed, object{"__type": "DryRunOperationException"}
	})
	client, _ := s.client(t)
	_, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("blob"), DryRun: aws.Bool(true)})
	var dryRun *types.DryRunOperationException
	var ours *Error
	if !errors.As(err, &dryRun) || errors.As(err, &ours) {
		t.Errorf("error %v", err)
	}
}

// The context's end isn't taken for a broken channel.
func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan struct{})
	s := newStub(t, func(stubRequest) (int, any) {
		cancel()
		<-returned // an answer now could be there before the cancellation is noticed
		return fails("InternalFailure")
	})
	client, _ := s.client(t)
	out, err := client.Decrypt(ctx, decryptInput)
	close(returned)
	e := wantError(t, err, "Decrypt", ReasonCanceled)
	if out != nil || !errors.Is(err, context.Canceled) || !strings.Contains(e.Detail, "before the response") {
		t.Errorf("output %v, error %v", out, err)
	}
}

func TestNoConnection(t *testing.T) {
	refused := errors.New("vsock: connection refused")
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA},
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, refused }})
	_, err := client.Decrypt(t.Context(), decryptInput)
	e := wantError(t, err, "Decrypt", ReasonChannel)
	if !errors.Is(err, refused) || !strings.Contains(e.Detail, "proxy") {
		t.Errorf("error %v", err)
	}
}

// Middlewares of the caller's stay, and don't see the plaintext.
func TestCallersMiddlewares(t *testing.T) {
	s := newStub(t, honest(t))
	ran := 0
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}, func(o *kms.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("theirs",
				func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
					out, metadata, err := next.HandleInitialize(ctx, in)
					ran++
					if result, ok := out.Result.(*kms.DecryptOutput); ok && result.Plaintext != nil {
						t.Error("a middleware sees the plaintext")
					}
					return out, metadata, err
				}), middleware.Before)
		})
	})
	out, err := client.Decrypt(t.Context(), decryptInput)
	if err != nil || string(out.Plaintext) != "plaintext" || ran != 1 {
		t.Errorf("error %v, the middleware ran %d times", err, ran)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := newStub(t, func(r stubRequest) (int, any) {
		plaintext, _ := r.body["EncryptionContext"].(map[string]any)["id"].(string)
		return http.StatusOK, object{"KeyId": keyA, "CiphertextForRecipient": r.seal(t, []byte(plaintext))}
	})
	client, _ := s.client(t)
	var wg sync.WaitGroup
	shared := &kms.DecryptInput{CiphertextBlob: []byte("blob"), EncryptionContext: map[string]string{"id": "shared"}}
	for i := range 16 {
		wg.Go(func() {
			for j := range 4 {
				id := fmt.Sprintf("%d of %d", j, i)
				out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("blob"), EncryptionContext: map[string]string{"id": id}})
				if err != nil || string(out.Plaintext) != id {
					t.Errorf("%s: error %v", id, err)
				}
				if out, err := client.Decrypt(t.Context(), shared); err != nil || !bytes.Equal(out.Plaintext, []byte("shared")) {
					t.Errorf("shared input: error %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// No error tells what an envelope held.
func TestErrorsHoldNoSecrets(t *testing.T) {
	secret := "the-secret-plaintext"
	s := newStub(t, func(r stubRequest) (int, any) {
		return http.StatusOK, honestAnswer(t, r, []byte(secret))
	})
	client, _ := s.client(t)
	_, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(keyA), KeySpec: types.DataKeySpecAes256})
	e := wantError(t, err, "GenerateDataKey", ReasonPlaintextSize)
	if text := fmt.Sprintf("%+v %#v", err, e); strings.Contains(text, secret) {
		t.Error(text)
	}
}

func TestChannelHints(t *testing.T) {
	for want, cause := range map[string]error{
		"nothing that ends it in between": &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
		"certificate of another host":     x509.HostnameError{Certificate: &x509.Certificate{}, Host: host},
		"clock":                           x509.CertificateInvalidError{Reason: x509.Expired},
		"proxy runs":                      &net.OpError{Op: "dial", Err: errors.New("refused")},
	} {
		err := newCall(decryptInput).explain(t.Context(), &smithyhttp.RequestSendError{Err: cause})
		if e := wantError(t, err, "Decrypt", ReasonChannel); !strings.Contains(e.Detail, want) {
			t.Errorf("%T: %s", cause, e.Detail)
		}
	}
	plain := errors.New("no credentials")
	if err := newCall(decryptInput).explain(t.Context(), plain); err != plain {
		t.Errorf("%v was explained", err)
	}
}

// What others write doesn't break the line.
func TestErrorIsOneLine(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) {
		return http.StatusBadRequest, object{"__type": "AccessDeniedException", "Message": "one\ntwo\x1b[31m\r\u0085three"}
	})
	client, _ := s.client(t)
	_, err := client.Decrypt(t.Context(), decryptInput)
	e := wantError(t, err, "Decrypt", ReasonAccessDenied)
	if strings.ContainsFunc(err.Error(), unicode.IsControl) || !strings.Contains(e.Message, "one\ntwo") {
		t.Errorf("%q", err)
	}
}

// What the parent delays on the way isn't skew.
func TestSkew(t *testing.T) {
	sent := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)
	for _, test := range []struct {
		name   string
		date   string
		took   time.Duration
		sent   time.Time
		wanted time.Duration
	}{
		{"the same", sent.Format(http.TimeFormat), 0, sent, 0},
		{"delayed request", sent.Add(28 * time.Second).Format(http.TimeFormat), 29 * time.Second, sent, 0},
		{"delayed answer", sent.Format(http.TimeFormat), 29 * time.Second, sent, 0},
		{"ahead", sent.Add(-10 * time.Second).Format(http.TimeFormat), time.Second, sent, 11 * time.Second},
		{"behind", sent.Add(60 * time.Second).Format(http.TimeFormat), 20 * time.Second, sent, -39 * time.Second},
		{"no date", "", time.Second, sent, 0},
		{"no date of HTTP's", "2026-01-02T00:00:00Z", time.Second, sent, 0},
		{"nothing was sent", sent.Format(http.TimeFormat), 0, time.Time{}, 0},
	} {
		a := attempt{sent: test.sent, received: test.sent.Add(test.took)}
		if got := a.skew(http.Header{"Date": {test.date}}); got != test.wanted {
			t.Errorf("%s: skew %v, want %v", test.name, got, test.wanted)
		}
	}
}
