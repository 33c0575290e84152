package vsockproxy

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// panickyHandler panics at every line, or already when asked whether it wants
// one, and says which line it was.
type panickyHandler struct {
	slog.Handler
	enabled bool
	lines   chan string
}

func (h panickyHandler) Enabled(context.Context, slog.Level) bool {
	if !h.enabled {
		h.lines <- ""
		panic("enabled")
	}
	return true
}

func (h panickyHandler) Handle(_ context.Context, r slog.Record) error {
	h.lines <- r.Message
	panic("handle")
}

// A panic of the log handler ends nothing, wherever the line is written: at the
// connection limit, at the end of a connection, at the end of the drain timeout.
func TestLogPanicsAreContained(t *testing.T) {
	for name, enabled := range map[string]bool{"handle": true, "enabled": false} {
		t.Run(name, func(t *testing.T) {
			lines := make(chan string, 16)
			target := origin(t, echo)
			p := &Proxy{
				Route:        To(target),
				Allow:        mustAllow(t, target),
				MaxConns:     1,
				DrainTimeout: time.Millisecond,
				Logger:       slog.New(panickyHandler{slog.DiscardHandler, enabled, lines}),
			}
			l := mustListen(t, TCP("127.0.0.1:0"))
			d := &Dialer{Endpoint: TCP(l.Addr().String()), Timeout: time.Minute}
			ctx, cancel := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			serving.Go(func() {
				if err := p.Serve(ctx, l); err != nil {
					t.Errorf("Serve: %v", err)
				}
			})
			want := func(line string) {
				t.Helper()
				if got := <-lines; enabled && got != line {
					t.Errorf("line %q, want %q", got, line)
				}
			}
			var conn conntest.Duplex
			for range 2 {
				c, err := d.DialContext(ctx, "", "")
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				if conn != nil {
					_ = conn.CloseWrite()
					conntest.WantCut(t, conn)
					want("connection ended")
				}
				conn = c.(conntest.Duplex)
				conntest.Write(t, conn, "hello")
				conntest.WantRead(t, conn, "hello")
				want("at the connection limit, further connections wait")
			}
			cancel()
			conntest.WantCut(t, conn)
			serving.Wait()
			for range 2 { // the cut and the end, in either order
				<-lines
			}
		})
	}
}
