package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// slowTo makes the client's attempts short. The limit may strike at any time,
// also before there is a connection.
func slowTo(client *kms.Client, timeout time.Duration) {
	c := client.Options().HTTPClient.(*http.Client)
	c.Transport = channel.Transport{Transport: c.Transport.(channel.Transport).Transport, Timeout: timeout}
}

// An attempt that takes too long isn't the caller's deadline, and is tried
// again.
func TestAttemptTimeout(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"no answer": func(http.ResponseWriter) {},
		"half an answer": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"KeyId":`))
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, nil)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // or the server doesn't see the connection's end
				answer(w)
				<-r.Context().Done()
			})
			client, attester := s.client(t)
			slowTo(client, 50*time.Millisecond)
			out, err := client.Decrypt(t.Context(), decryptInput, withRetries)
			e := wantError(t, err, "Decrypt", ReasonChannel)
			var tooSlow channel.TooSlow
			if out != nil || errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &tooSlow) || !strings.Contains(err.Error(), "within 50ms") {
				t.Errorf("output %v, error %v", out, err)
			}
			if e.Detail == "" || attester.calls() != 3 {
				t.Errorf("%d attempts, detail %q", attester.calls(), e.Detail)
			}
		})
	}
}

// The limits that a dialer has of its own aren't the caller's deadline either.
// What else its error says is still there.
func TestDialTimeout(t *testing.T) {
	cause := &net.OpError{Op: "dial", Net: "vsock", Err: fmt.Errorf("no answer: %w", context.DeadlineExceeded)}
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA},
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, cause }})
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonChannel)
	var op *net.OpError
	if errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &op) || op != cause || !errors.Is(err, cause) {
		t.Errorf("error %v", err)
	}
}

// A dial function without a limit of its own ends all the same. The call that
// wanted the connection has ended long before.
func TestDialIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		client := channel.New(func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			ended.Add(1)
			return nil, ctx.Err()
		}, nil)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host, nil)
			if err != nil {
				t.Fatal(err)
			}
			if response, err := client.Do(request); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("response %v, error %v", response, err)
			}
			cancel()
		}
		time.Sleep(channel.AttemptTimeout)
		synctest.Wait()
		if n := ended.Load(); n != 3 {
			t.Errorf("%d of 3 dials ended", n)
		}
	})
}

// Who answers TLS with something else is told from a connection that is cut.
func TestHandshakeHints(t *testing.T) {
	for name, test := range map[string]struct {
		says string
		hint string
	}{
		"nothing":   {"", "its log says why"},
		"plaintext": {"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"},
		"alert":     {"\x15\x03\x03\x00\x02\x02\x28", "no TLS with whoever responded"}, // handshake_failure
	} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA},
				Dial: func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := net.Pipe()
					go func() {
						_, _ = theirs.Read(make([]byte, 16<<10)) // the ClientHello
						_, _ = theirs.Write([]byte(test.says))
						_ = theirs.Close()
					}()
					return ours, nil
				}})
			_, err := client.Decrypt(t.Context(), decryptInput)
			if e := wantError(t, err, "Decrypt", ReasonChannel); !strings.Contains(e.Detail, test.hint) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// An answer that is whole and nonsense is told as such.
func TestUnreadableAnswer(t *testing.T) {
	for name, body := range map[string]string{"no JSON": "<html>", "another type": `{"KeyId":{}}`, "half an object": `{"KeyId":"`} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t, nil)
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
			client, attester := s.client(t)
			out, err := client.Decrypt(t.Context(), decryptInput, withRetries)
			e := wantError(t, err, "Decrypt", ReasonMalformedResponse)
			if out != nil || !strings.Contains(e.Detail, "200") || attester.calls() != 1 {
				t.Errorf("output %v, %d attempts, error %v", out, attester.calls(), err)
			}
		})
	}
}
