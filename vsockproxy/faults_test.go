package vsockproxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestAllowFromIsAskedOnceAtFirst(t *testing.T) {
	const target = "192.0.2.1:443"
	allow := mustAllow(t, target)
	asked := 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Proxy{Route: To(target), AllowFrom: func() Allowlist { asked++; return allow }}
	if err := p.Serve(ctx, &scriptedListener{}); err != nil {
		t.Fatal(err)
	}
	if asked != 1 {
		t.Errorf("asked %d times when Serve begins, want once", asked)
	}
}

func TestPanicOfAllowFrom(t *testing.T) {
	l := &scriptedListener{}
	p := Proxy{Route: To("192.0.2.1:443"), AllowFrom: func() Allowlist { panic("no rules") }}
	e := wantReason(t, p.Serve(t.Context(), l), ReasonInvalidOptions)
	if !strings.Contains(e.Error(), "no rules") {
		t.Errorf("message %q does not say what the panic said", e)
	}
	if !l.closed {
		t.Error("the listener was left open")
	}
}

// brittleConn panics when it is asked for what a cut needs.
type brittleConn struct {
	conntest.Wrapped
	where string
	armed *atomic.Bool
}

func (c brittleConn) SetLinger(int) error {
	c.check("SetLinger")
	return nil
}

func (c brittleConn) Close() error {
	c.check("Close")
	return c.Wrapped.Close()
}

func (c brittleConn) CloseWrite() error {
	c.check("CloseWrite")
	return c.Wrapped.CloseWrite()
}

func (c brittleConn) SetDeadline(d time.Time) error {
	c.check("SetDeadline")
	return c.Wrapped.SetDeadline(d)
}

func (c brittleConn) check(where string) {
	if c.armed.Load() && c.where == where {
		panic(where)
	}
}

// brittle serves a proxy whose connections are brittle, and has one open.
func brittle(t *testing.T, tr transport, where string, p *Proxy) (r *running, conn conntest.Duplex, armed *atomic.Bool) {
	armed = new(atomic.Bool)
	l, e := tr.listen(t)
	l = wrapListener{l, func(conn net.Conn) net.Conn {
		return brittleConn{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, where, armed}
	}}
	p.Route = To(origin(t, echo))
	r = startOn(t, l, e, p)
	conn = r.dial(t)
	conntest.Write(t, conn, "hello")
	conntest.WantRead(t, conn, "hello")
	return r, conn, armed
}

// What drain and idle timeouts do to a connection may panic in it.
func TestPanicsOfCutsAreContained(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, where := range []string{"SetLinger", "Close", "CloseWrite", "SetDeadline"} {
			t.Run(where, func(t *testing.T) {
				t.Run("drain", func(t *testing.T) {
					r, _, armed := brittle(t, tr, where, &Proxy{DrainTimeout: time.Millisecond})
					other := r.dial(t)
					conntest.Write(t, other, "hello")
					conntest.WantRead(t, other, "hello")
					armed.Store(true)
					if err := r.stop(); err != nil {
						t.Errorf("Serve: %v", err)
					}
					r.log.wantEnd(t, endShutdown)
					r.log.wantEnd(t, endShutdown)
				})
				t.Run("idle", func(t *testing.T) {
					r, _, armed := brittle(t, tr, where, &Proxy{IdleTimeout: 50 * time.Millisecond})
					armed.Store(true)
					r.log.wantEnd(t, endIdle)
				})
				t.Run("lifetime", func(t *testing.T) {
					r, _, armed := brittle(t, tr, where, &Proxy{MaxLifetime: 50 * time.Millisecond})
					armed.Store(true)
					r.log.wantEnd(t, endLifetime)
				})
				t.Run("end", func(t *testing.T) {
					r, conn, armed := brittle(t, tr, where, &Proxy{})
					armed.Store(true)
					if err := conn.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					want := endClosed
					if where == "Close" {
						want = endPanic
					}
					r.log.wantEnd(t, want)
					armed.Store(false)
					if err := roundTrip(t.Context(), &r.Dialer, "still there"); err != nil {
						t.Error(err)
					}
				})
			})
		}
	})
}

// A proxy that accepts nothing because it is full learns that its listener is gone
// although none of its connections ends.
func TestListenerClosedAtTheLimit(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, tr transport) {
		t.Parallel()
		if tr.name == "vsock" {
			t.Skip("package vsock does not tell whether a listener is closed")
		}
		l, e := tr.listen(t)
		target := origin(t, echo)
		p := Proxy{Route: To(target), Allow: mustAllow(t, target), MaxConns: 1, DrainTimeout: time.Millisecond}
		served := make(chan error, 1)
		go func() { served <- p.Serve(t.Context(), l) }()
		conn, err := (&Dialer{Endpoint: e, Timeout: time.Minute}).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
		_ = l.Close()
		e2 := wantReason(t, <-served, ReasonListener)
		if !errors.Is(e2, net.ErrClosed) {
			t.Errorf("%v does not wrap %v", e2, net.ErrClosed)
		}
		conntest.WantCut(t, conn)
	})
}
