package kmsclient_test

import (
	"errors"
	"io"
	"net/http/httptrace"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// A connection that is reset, wherever that is, costs an attempt, and each
// attempt has a document of its own. What can't be had in the end is told by
// what broke last.
func TestReset(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	hints := map[point]string{
		onAccept: "its log says why", inClientHello: "its log says why", inServerHello: "its log says why",
		beforeRequest: "the connection ended", inRequest: "the connection ended",
		beforeAnswer: "before the response", inHeader: "before the response",
		inBody: "the connection ended", // a reset may take with it what came before
	}
	for _, at := range allPoints {
		if at == onReuse {
			continue // TestResetOfKeptConnections
		}
		t.Run(string(at), func(t *testing.T) {
			for failing := 1; failing <= 3; failing++ {
				r.closeIdle()
				r.cutter.plan(slices.Repeat([]fault{{at: at}}, failing)...)
				conns, met := r.cutter.counts()
				documents, _ := r.documents.made()

				out, err := r.client.Decrypt(t.Context(), input, attempts(3))
				attempts := min(failing+1, 3)
				if failing < 3 {
					wantSecret(t, 1, out, err)
				} else {
					wantFault(t, out, err, kmsclient.ReasonChannel, hints[at])
				}
				connsNow, metNow := r.cutter.counts()
				documentsNow, _ := r.documents.made()
				if metNow[at]-met[at] != failing || connsNow-conns != attempts || documentsNow-documents != attempts {
					t.Errorf("%d faults, %d connections and %d documents, want %d, %d and %d",
						metNow[at]-met[at], connsNow-conns, documentsNow-documents, failing, attempts, attempts)
				}
			}
		})
	}
}

// Kept connections that are gone cost one attempt, however many they are, and
// whether the client was told or finds out when it uses them.
func TestResetOfKeptConnections(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	const kept = 5
	fill := func(f fault) {
		t.Helper()
		r.closeIdle()
		// All are held before the answer, so that none can use another's
		// connection.
		r.cutter.plan(slices.Repeat([]fault{{at: beforeAnswer, hold: true}}, kept)...)
		done := make(chan error, kept)
		for range kept {
			go func() {
				_, err := r.client.Decrypt(t.Context(), input)
				done <- err
			}()
		}
		for range kept {
			<-r.cutter.held
		}
		r.cutter.spoil(f)
		for range kept {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Run("told", func(t *testing.T) {
		fill(fault{})
		r.cutter.resetAll()
		out, err := r.client.Decrypt(t.Context(), input, attempts(2))
		wantSecret(t, 1, out, err)
	})
	t.Run("not told", func(t *testing.T) {
		fill(fault{at: onReuse})
		_, before := r.cutter.counts()
		documents, _ := r.documents.made()
		out, err := r.client.Decrypt(t.Context(), input, attempts(2))
		wantSecret(t, 1, out, err)
		_, met := r.cutter.counts()
		if n := met[onReuse] - before[onReuse]; n != 1 {
			t.Errorf("%d dead connections were tried", n)
		}
		if now, _ := r.documents.made(); now-documents != 2 {
			t.Errorf("%d documents for 2 attempts", now-documents)
		}
	})
}

// A proxy that is killed in the middle of a call and started again costs that
// call an attempt, and the next call nothing.
func TestProxyKilledMidCall(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	target := r.cutter.listener.Addr().String()
	for _, at := range []point{onAccept, inServerHello, inRequest, beforeAnswer, inBody} {
		t.Run(string(at), func(t *testing.T) {
			r.closeIdle()
			r.cutter.plan(fault{at: at, hold: true})
			restart, restarted := make(chan struct{}), make(chan struct{})
			go func() {
				<-r.cutter.held
				r.kill()
				<-restart
				r.serve(t, target)
				close(restarted)
			}()
			var once bool
			out, err := r.client.Decrypt(t.Context(), input, attemptsWith(2, func() time.Duration {
				if !once {
					once = true
					close(restart)
					<-restarted
				}
				return 0
			}))
			wantSecret(t, 1, out, err)
			if !once {
				t.Error("no attempt failed")
			}
			out, err = r.client.Decrypt(t.Context(), input, attempts(1))
			wantSecret(t, 1, out, err)
		})
	}
}

// A proxy that stays away is told as such, whether the attempts or the context
// come to their end.
func TestProxyGone(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	wantUnreachable := func(t *testing.T, err error) {
		t.Helper()
		var dial *vsockproxy.Error
		if !errors.As(err, &dial) || dial.Reason != vsockproxy.ReasonUnreachable {
			t.Errorf("the dialer's reason isn't there: %v", err)
		}
	}
	out, err := r.client.Decrypt(t.Context(), input, attempts(1))
	wantSecret(t, 1, out, err)

	t.Run("mid-call", func(t *testing.T) {
		r.closeIdle()
		r.cutter.plan(fault{at: beforeAnswer, hold: true})
		go func() {
			<-r.cutter.held
			r.kill()
		}()
		out, err := r.client.Decrypt(t.Context(), input, attempts(1))
		wantFault(t, out, err, kmsclient.ReasonChannel, "before the response")
	})
	t.Run("attempts", func(t *testing.T) {
		documents, _ := r.documents.made()
		out, err := r.client.Decrypt(t.Context(), input, attempts(3))
		wantFault(t, out, err, kmsclient.ReasonChannel, "proxy runs")
		wantUnreachable(t, err)
		if now, _ := r.documents.made(); now-documents != 3 {
			t.Errorf("%d documents for 3 attempts", now-documents)
		}
	})
	t.Run("quota", func(t *testing.T) {
		out, err := r.client.Decrypt(t.Context(), input, func(o *kms.Options) {
			o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
				s.RateLimiter = ratelimit.NewTokenRateLimit(s.RetryCost) // one retry
				s.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
			})
		})
		wantFault(t, out, err, kmsclient.ReasonChannel, "proxy runs")
		wantUnreachable(t, err)
		var quota ratelimit.QuotaExceededError
		if !errors.As(err, &quota) {
			t.Errorf("the quota isn't told: %v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		ctx := newDeadline(t)
		out, err := r.client.Decrypt(ctx, input, attemptsWith(3, func() time.Duration {
			ctx.pass()
			return time.Hour
		}))
		wantFault(t, out, err, kmsclient.ReasonCanceled, "before the next attempt")
		wantUnreachable(t, err)
	})
	t.Run("before", func(t *testing.T) {
		ctx := newDeadline(t)
		ctx.pass()
		documents, _ := r.documents.made()
		out, err := r.client.Decrypt(ctx, input, attempts(3))
		wantFault(t, out, err, kmsclient.ReasonCanceled, "before anything was sent")
		if now, _ := r.documents.made(); now != documents {
			t.Error("a document was made")
		}
	})
}

// A proxy that doesn't reach its target closes the connection without a word:
// its log has the reason.
func TestProxyWithoutTarget(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	_ = r.cutter.listener.Close()
	out, err := r.client.Decrypt(t.Context(), input, attempts(2))
	wantFault(t, out, err, kmsclient.ReasonChannel, "its log says why")
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the cause isn't there: %v", err)
	}
}

// A call ends with its context, wherever it is held up, and what comes too late
// is nobody else's answer.
func TestDeadline(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	first, second := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}, &kms.DecryptInput{CiphertextBlob: r.seal(t, 2)}
	for at, hint := range map[point]string{
		inClientHello: "in the TLS handshake", inServerHello: "in the TLS handshake",
		beforeAnswer: "before the response", inHeader: "before the response", inBody: "in the middle of the response",
	} {
		t.Run(string(at), func(t *testing.T) {
			r.closeIdle()
			r.cutter.plan(fault{at: at, hold: true})
			before, _ := r.cutter.counts()
			ctx, begun := newDeadline(t), make(chan struct{})
			if at == inBody {
				ctx.Context = httptrace.WithClientTrace(ctx.Context, &httptrace.ClientTrace{GotFirstResponseByte: func() { close(begun) }})
			} else {
				close(begun)
			}
			go func() {
				<-r.cutter.held
				<-begun
				ctx.pass()
			}()
			out, err := r.client.Decrypt(ctx, first, attempts(3))
			wantFault(t, out, err, kmsclient.ReasonCanceled, hint)

			// While the first answer is still on its way, and after it came.
			out, err = r.client.Decrypt(t.Context(), second, attempts(1))
			wantSecret(t, 2, out, err)
			r.cutter.release()
			out, err = r.client.Decrypt(t.Context(), second, attempts(1))
			wantSecret(t, 2, out, err)
			if now, _ := r.cutter.counts(); at != inClientHello && at != inServerHello && now-before != 2 {
				t.Errorf("%d connections, want one that was given up and one for the next calls", now-before)
			}
		})
	}
}
