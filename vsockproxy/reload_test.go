package vsockproxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// changing is what AllowFrom says, and changes while a proxy serves.
type changing struct{ current atomic.Pointer[Allowlist] }

func newChanging(t *testing.T, entries ...string) *changing {
	r := new(changing)
	r.set(t, entries...)
	return r
}

func (r *changing) now() Allowlist { return *r.current.Load() }

func (r *changing) set(t *testing.T, entries ...string) {
	t.Helper()
	a := mustAllow(t, entries...)
	r.current.Store(&a)
}

// New rules are for new connections; those that are open go on.
func TestReloadUnderOpenConnections(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		target := origin(t, echo)
		rules := newChanging(t, target)
		r := start(t, tr, &Proxy{Route: To(target), AllowFrom: rules.now})
		old := r.dial(t)
		conntest.Write(t, old, "one")
		conntest.WantRead(t, old, "one")

		rules.set(t, "other.example:443")
		refused := r.dial(t)
		conntest.WantCut(t, refused)
		if line := r.log.wantEnd(t, string(ReasonNotAllowed)); !strings.Contains(line["error"].(string), target) {
			t.Errorf("line %v", line)
		}
		conntest.Write(t, old, "two")
		conntest.WantRead(t, old, "two")

		rules.set(t, "other.example:443", target)
		if err := roundTrip(t.Context(), &r.Dialer, "three"); err != nil {
			t.Error(err)
		}
		conntest.Write(t, old, "four")
		conntest.WantRead(t, old, "four")
		if err := old.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conntest.WantCut(t, old)
		r.log.wantEnd(t, endClosed)
	})
}

// Names are judged by the rules of the moment, and so are the addresses they lead
// to.
func TestReloadOfAddresses(t *testing.T) {
	target := origin(t, echo)
	name := net.JoinHostPort("name.example", portOf(t, target))
	var rules atomic.Pointer[Allowlist]
	set := func(entries ...string) {
		a := mustAllow(t, entries...)
		rules.Store(&a)
	}
	set(name)
	p := &Proxy{Route: To(name), AllowFrom: func() Allowlist { return *rules.Load() }, Resolver: fakeDNS{"name.example": {"127.0.0.1"}}}
	r := start(t, transports[2], p)
	conntest.WantCut(t, r.dial(t))
	r.log.wantEnd(t, string(ReasonForbiddenAddress))
	set(name, "127.0.0.0/8:1-65535")
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	r.log.wantEnd(t, endClosed)
	rules.Store(new(Allowlist)) // an empty list permits nothing
	conntest.WantCut(t, r.dial(t))
	r.log.wantEnd(t, string(ReasonNotAllowed))
}

// Rules change and connections are served at once.
func TestReloadWhileServing(t *testing.T) {
	target := origin(t, echo)
	rules := newChanging(t, target)
	r := start(t, transports[2], &Proxy{Route: To(target), AllowFrom: rules.now})
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			rules.set(t, target, fmt.Sprintf("n%d.example:443", i))
		}
	})
	for range 50 {
		if err := roundTrip(ctx, &r.Dialer, "hello"); err != nil {
			t.Error(err)
		}
	}
	cancel()
	others.Wait()
}

// An enclave has the targets of its own context ID.
func TestContextIDsAtTheProxy(t *testing.T) {
	target := origin(t, echo)
	p := &Proxy{Route: To(target), Allow: mustAllow(t, target+" cid=16,18")}
	l, e := transports[2].listen(t)
	var cid atomic.Uint32
	r := startOn(t, wrapListener{l, func(conn net.Conn) net.Conn {
		if cid.Load() == 0 {
			return conn
		}
		return fromCID{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, cid.Load()}
	}}, e, p)
	for _, test := range []struct {
		cid uint32
		ok  bool
	}{{16, true}, {17, false}, {18, true}, {0, false}} {
		cid.Store(test.cid)
		err := roundTrip(t.Context(), &r.Dialer, "hello")
		if (err == nil) != test.ok {
			t.Errorf("context ID %d: %v", test.cid, err)
		}
		if test.ok {
			r.log.wantEnd(t, endClosed)
		} else if line := r.log.wantEnd(t, string(ReasonNotAllowed)); !strings.Contains(line["error"].(string), "but not for") {
			t.Errorf("line %v", line)
		}
	}
}

// Over the kernel's own vsock the context ID is the one of the machine.
func TestContextIDsOverVsock(t *testing.T) {
	needVsockLoopback(t)
	target := origin(t, echo)
	for cid, ok := range map[uint32]bool{vsock.Local: true, 99: false} {
		r := start(t, transports[3], &Proxy{Route: To(target), Allow: mustAllow(t, fmt.Sprintf("%s cid=%d", target, cid))})
		if err := roundTrip(t.Context(), &r.Dialer, "hello"); (err == nil) != ok {
			t.Errorf("context ID %d: %v", cid, err)
		}
	}
}
