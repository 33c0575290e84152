package vsockproxy

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestHeartbeat(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, test := range []struct {
			name   string
			answer string
			reason Reason // empty: success
		}{
			{"echo", "\xb7", ""},
			{"echo and more", "\xb7\xb7", ""},
			{"another byte", "\xb8", ReasonHandshake},
			{"nothing", "", ReasonFailed},
		} {
			t.Run(test.name, func(t *testing.T) {
				l, e := tr.listen(t)
				got := make(chan string, 1)
				serveOn(t, l, func(conn conntest.Duplex) {
					var b [1]byte
					_, _ = io.ReadFull(conn, b[:])
					_, _ = io.WriteString(conn, test.answer)
					_ = conn.CloseWrite()
					rest, _ := io.ReadAll(conn)
					got <- string(b[:]) + string(rest)
				})
				err := Heartbeat(t.Context(), e)
				if sent := <-got; sent != "\xb7" {
					t.Errorf("sent %q", sent)
				}
				if test.reason == "" {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := wantReason(t, err, test.reason); e.Op != "heartbeat" {
					t.Errorf("%v, want Op heartbeat", e)
				}
			})
		}
		t.Run("silence", func(t *testing.T) {
			l, e := tr.listen(t)
			ctx, cancel := context.WithCancel(t.Context())
			serveOn(t, l, func(conn conntest.Duplex) {
				var b [1]byte
				_, _ = io.ReadFull(conn, b[:])
				cancel()
				_, _ = io.Copy(io.Discard, conn)
			})
			wantReason(t, Heartbeat(ctx, e), ReasonCanceled)
		})
	})
	t.Run("nobody", func(t *testing.T) {
		err := Heartbeat(t.Context(), TCP(closedPort(t)))
		if e := wantReason(t, err, ReasonRefused); e.Op != "dial" {
			t.Errorf("%v", e)
		}
	})
	t.Run("no parent", func(t *testing.T) {
		var e *Error
		if err := Heartbeat(t.Context(), Endpoint{}); !errors.As(err, &e) || e.Endpoint != Vsock(ParentCID, HeartbeatPort) {
			t.Errorf("%v is not about vsock://3:9000", err)
		}
	})
}
