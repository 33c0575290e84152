package kmsclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

// clientOf makes a client with credentials of its own, whose calls are tried once.
func (w *world) clientOf(t *testing.T, provider aws.CredentialsProvider) *kms.Client {
	t.Helper()
	cfg := w.kms.Config()
	cfg.Credentials = provider
	client, err := kmsclient.New(t.Context(), cfg, w.session, kmsclient.Options{KeyIDs: []string{w.key}, Dial: w.dial, RootCAs: w.kms.RootCAs()},
		func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	return client
}

// TestCredentialsFail has the provider fail in ways that look like KMS's own.
func TestCredentialsFail(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	sealed := w.sealed(t)
	denied := &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not this role"}
	stsDenies := sts.New(sts.Options{Region: "eu-west-1", Credentials: w.kms.Config().Credentials, Retryer: aws.NopRetryer{},
		HTTPClient: answering(http.StatusForbidden, `<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error><RequestId>of-sts</RequestId></ErrorResponse>`)})
	for name, c := range map[string]struct {
		provider aws.CredentialsProvider
		detail   string
	}{
		"an error like KMS's": {failing{denied}, "KMS was not asked"},
		"a limit of its own":  {failing{fmt.Errorf("slow: %w", context.DeadlineExceeded)}, "KMS was not asked"},
		"an SDK's limit":      {failing{&smithy.CanceledError{Err: context.DeadlineExceeded}}, "KMS was not asked"},
		"STS denies": {stscreds.NewAssumeRoleProvider(stsDenies, "arn:aws:iam::111122223333:role/enclave"),
			"AssumeRole of STS; KMS was not asked; the secret key is wrong, or the enclave's clock is"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.clientOf(t, c.provider).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
			var e *kmsclient.Error
			if out != nil || !errors.As(err, &e) || e.Reason != kmsclient.ReasonCredentials || !strings.Contains(e.Detail, c.detail) {
				t.Fatalf("error %v", err)
			}
			if e.Code != "" || e.RequestID != "" || e.PCRs != nil || strings.Contains(err.Error(), "PCR") {
				t.Errorf("looks like KMS's: %v", err)
			}
		})
	}
	for _, r := range w.kms.Requests() {
		if r.Operation != "Encrypt" {
			t.Errorf("KMS was asked: %s", r.Operation)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	provider := aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		cancel()
		<-ctx.Done()
		return aws.Credentials{}, ctx.Err()
	})
	_, err := w.clientOf(t, provider).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed})
	if reason(err) != kmsclient.ReasonCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while the credentials were awaited: %v", err)
	}
}

// TestSessionTokenIsLeftOut has KMS repeat a request in an error, as it does if the
// signature is wrong.
func TestSessionTokenIsLeftOut(t *testing.T) {
	const token = "session/token+of=the=test"
	w := newWorldWith(t, kmstest.Options{})
	client := w.clientOf(t, failing{})
	_, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: w.sealed(t)}, func(o *kms.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "s", SessionToken: token}, nil
		})
		o.HTTPClient = answering(http.StatusBadRequest, `{"__type":"InvalidSignatureException","message":"The Canonical String should have been\nx-amz-security-token:`+token+`"}`)
	})
	var e *kmsclient.Error
	if !errors.As(err, &e) || e.Code != "InvalidSignatureException" {
		t.Fatalf("error %v", err)
	}
	if strings.Contains(e.Error(), token) || strings.Contains(e.Message, token) || !strings.Contains(e.Message, "Canonical String") {
		t.Errorf("the session token is in %v", e)
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Error("the SDK's error can't be found")
	}
}

// TestOnlyAttestedCallsAreRepeated cuts answers in the middle. What KMS was asked
// to do is done by then.
func TestOnlyAttestedCallsAreRepeated(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	client := w.client(t, w.session, kmsclient.Options{})
	for _, operation := range []string{"GenerateDataKeyWithoutPlaintext", "GenerateDataKey"} {
		if err := w.kms.Inject(kmstest.Fault{Operation: operation, Failure: kmstest.CutInBody}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &w.key, KeySpec: "AES_256"}); err == nil {
		t.Error("an operation that isn't attested was repeated")
	}
	if _, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &w.key, KeySpec: "AES_256"}); err != nil {
		t.Errorf("an attested operation wasn't repeated: %v", err)
	}
	if n := len(w.kms.Requests()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

// TestForgottenDial is what a program that is moved into an enclave meets first.
func TestForgottenDial(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close() // so that nobody is there
	cfg := w.kms.Config()
	cfg.BaseEndpoint = aws.String("https://" + listener.Addr().String())
	client, err := kmsclient.New(t.Context(), cfg, w.session, kmsclient.Options{KeyIDs: []string{w.key}, Hosts: []string{"127.0.0.1"}},
		func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)}); reason(err) != kmsclient.ReasonChannel || !strings.Contains(err.Error(), "Dial is not set") {
		t.Errorf("error %v", err)
	}
}

// sealed is a plaintext that the world's key encrypted outside.
func (w *world) sealed(t *testing.T) []byte {
	t.Helper()
	outside := kms.NewFromConfig(w.kms.Config(), func(o *kms.Options) { o.HTTPClient = w.kms.Client() })
	out, err := outside.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &w.key, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

// answering is an HTTP client that gives one answer to all requests.
func answering(status int, body string) *http.Client {
	return &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type failing struct{ err error }

func (f failing) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, f.err
}
