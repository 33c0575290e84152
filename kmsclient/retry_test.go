package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
	"github.com/keyvouch/keyvouch/nsm"
)

// An NSM that fails is asked once, however much its errno looks like one of
// the network.
func TestAttestationIsNotRetried(t *testing.T) {
	for name, cause := range map[string]error{
		"timeout":     &nsm.Error{Op: "Attest", Reason: nsm.ReasonTimeout, Err: syscall.ETIMEDOUT},
		"interrupted": &nsm.Error{Op: "Attest", Reason: nsm.ReasonInterrupted, Err: syscall.EINTR},
		"reset":       syscall.ECONNRESET,
		"text":        errors.New("connection reset"),
		"dial":        &net.OpError{Op: "dial", Err: errors.New("no")},
		"deadline":    context.DeadlineExceeded,
		"refused":     &nsm.Error{Op: "Attest", Reason: nsm.ReasonNSM, Code: nsm.CodeInternalError},
	} {
		t.Run(name, func(t *testing.T) {
			attester := &fakeAttester{edit: func([]byte, error) ([]byte, error) { return nil, cause }}
			client := newTestClient(t, testConfig(), attester, Options{KeyIDs: []string{keyA}}, withRetries)
			out, err := client.Decrypt(t.Context(), decryptInput)
			wantError(t, err, "Decrypt", ReasonAttestation)
			if out != nil || !errors.Is(err, cause) {
				t.Errorf("output %v, error %v", out, err)
			}
			if attester.calls() != 1 {
				t.Errorf("the attester was asked %d times", attester.calls())
			}
		})
	}
}

// A certificate that isn't accepted isn't tried again, in any operation. What
// is wrong with it is still there for errors.As.
func TestCertificateFailuresAreNotRetried(t *testing.T) {
	kms1, other := newStub(t, honest(t)), newStubFor(t, []string{"kms.us-east-1.amazonaws.com"}, honest(t))
	expired := newStub(t, honest(t))
	for name, test := range map[string]struct {
		server *stub
		roots  *x509.CertPool
		now    time.Time
		cause  any
		hint   string
	}{
		"unknown authority": {kms1, other.roots, time.Time{}, new(x509.UnknownAuthorityError), "nothing that ends it in between"},
		"Amazon's roots":    {kms1, nil, time.Time{}, new(x509.UnknownAuthorityError), "nothing that ends it in between"},
		"other host":        {other, other.roots, time.Time{}, new(x509.HostnameError), "certificate of another host"},
		"expired":           {expired, expired.roots, time.Now().Add(48 * time.Hour), new(x509.CertificateInvalidError), "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			var dials atomic.Int32
			opts := Options{KeyIDs: []string{keyA}, RootCAs: test.roots, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dials.Add(1)
				return test.server.dial(ctx, network, address)
			}}
			attester := &fakeAttester{}
			client := newTestClient(t, testConfig(), attester, opts, withRetries)
			tlsConfig(client).Time = func() time.Time {
				if test.now.IsZero() {
					return time.Now()
				}
				return test.now
			}
			out, err := client.Decrypt(t.Context(), decryptInput)
			e := wantError(t, err, "Decrypt", ReasonChannel)
			if out != nil || !errors.As(err, test.cause) || !strings.Contains(e.Detail, test.hint) {
				t.Errorf("output %v, error %v", out, err)
			}
			if dials.Load() != 1 || attester.calls() != 1 {
				t.Errorf("%d connections and %d documents", dials.Load(), attester.calls())
			}
			_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyA), Plaintext: []byte("p")})
			if err == nil || !errors.As(err, test.cause) || dials.Load() != 2 {
				t.Errorf("Encrypt: %d connections, error %v", dials.Load(), err)
			}
			if n := len(test.server.seen()); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func tlsConfig(client *kms.Client) *tls.Config {
	return client.Options().HTTPClient.(*http.Client).Transport.(channel.Transport).TLSClientConfig
}

// What may heal is tried again: a connection that can't be had, or that breaks.
func TestConnectionFailuresAreRetried(t *testing.T) {
	s := newStub(t, honest(t))
	dials := 0
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, RootCAs: s.roots,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			switch dials {
			case 1:
				return nil, errors.New("the proxy restarts")
			case 2:
				broken, other := net.Pipe()
				return broken, other.Close()
			}
			return s.dial(ctx, network, address)
		}}, withRetries)
	out, err := client.Decrypt(t.Context(), decryptInput)
	if err != nil || string(out.Plaintext) != "plaintext" || dials != 3 {
		t.Errorf("%d connections, error %v", dials, err)
	}
}
