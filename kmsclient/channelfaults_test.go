package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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
		channel := newChannel(func(ctx context.Context, _, _ string) (net.Conn, error) {
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
			if response, err := channel.Do(request); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("response %v, error %v", response, err)
			}
			cancel()
		}
		time.Sleep(attemptTimeout)
		synctest.Wait()
		if n := ended.Load(); n != 3 {
			t.Errorf("%d of 3 dials ended", n)
		}
	})
}
