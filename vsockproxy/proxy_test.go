package vsockproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestServeRefusesBadConfiguration(t *testing.T) {
	allow := mustAllow(t, "kms.eu-west-1.amazonaws.com:443")
	const good = "kms.eu-west-1.amazonaws.com:443"
	for _, test := range []struct {
		name   string
		proxy  Proxy
		reason Reason
		says   string
	}{
		{"no target", Proxy{Allow: allow}, ReasonInvalidOptions, "Proxy.Route"},
		{"no port", Proxy{Allow: allow, Route: To("kms.eu-west-1.amazonaws.com")}, ReasonInvalidOptions, "Proxy.Route"},
		{"no allowlist", Proxy{Route: To(good)}, ReasonInvalidOptions, "Proxy.Allow"},
		{"other name", Proxy{Allow: allow, Route: To("kms.eu-west-2.amazonaws.com:443")}, ReasonNotAllowed, "eu-west-2"},
		{"other port", Proxy{Allow: allow, Route: To("kms.eu-west-1.amazonaws.com:80")}, ReasonNotAllowed, ":80"},
		{"address not listed", Proxy{Allow: allow, Route: To("1.1.1.1:443")}, ReasonNotAllowed, "1.1.1.1:443"},
		{"two allowlists", Proxy{Allow: allow, AllowFrom: func() Allowlist { return allow }, Route: To(good)}, ReasonInvalidOptions, "both"},
		{"empty AllowFrom", Proxy{AllowFrom: func() Allowlist { return Allowlist{} }, Route: To(good)}, ReasonInvalidOptions, "Proxy.AllowFrom"},
		{"not on AllowFrom", Proxy{AllowFrom: func() Allowlist { return allow }, Route: To("b.example:443")}, ReasonNotAllowed, "b.example"},
		{"address family", Proxy{Allow: allow, Route: To(good), AddressFamily: 9}, ReasonInvalidOptions, "Proxy.AddressFamily"},
		{"negative MaxConns", Proxy{Allow: allow, Route: To(good), MaxConns: -1}, ReasonInvalidOptions, "Proxy.MaxConns"},
		{"negative DialTimeout", Proxy{Allow: allow, Route: To(good), DialTimeout: -1}, ReasonInvalidOptions, "Proxy.DialTimeout"},
		{"negative IdleTimeout", Proxy{Allow: allow, Route: To(good), IdleTimeout: -1}, ReasonInvalidOptions, "Proxy.IdleTimeout"},
		{"negative DrainTimeout", Proxy{Allow: allow, Route: To(good), DrainTimeout: -1}, ReasonInvalidOptions, "Proxy.DrainTimeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &scriptedListener{}
			e := wantReason(t, test.proxy.Serve(t.Context(), l), test.reason)
			if !strings.Contains(e.Error(), test.says) {
				t.Errorf("message %q does not say %q", e, test.says)
			}
			if l.accepts != 0 {
				t.Error("accepted before the configuration was checked")
			}
			if !l.closed {
				t.Error("the listener was left open")
			}
		})
	}
	wantReason(t, (&Proxy{Route: To(good), Allow: allow}).Serve(t.Context(), nil), ReasonInvalidOptions)
}

func TestServeAcceptsAnySpellingOfTheTarget(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Proxy{Route: To("KMS.eu-west-1.AmazonAWS.com.:443"), Allow: mustAllow(t, "kms.EU-west-1.amazonaws.com:443")}
	if err := p.Serve(ctx, &scriptedListener{}); err != nil {
		t.Errorf("Serve with a context that has ended: %v, want nil", err)
	}
}

// scriptedListener fails as told, then accepts from inner, then is closed.
type scriptedListener struct {
	inner    net.Listener
	failures []error
	accepts  int

	mu     sync.Mutex
	closed bool
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	l.accepts++
	if len(l.failures) > 0 {
		err := l.failures[0]
		l.failures = l.failures[1:]
		return nil, err
	}
	if l.inner != nil {
		return l.inner.Accept()
	}
	return nil, net.ErrClosed
}

func (l *scriptedListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.inner != nil {
		return l.inner.Close()
	}
	return nil
}

func (l *scriptedListener) Addr() net.Addr { return &net.UnixAddr{Name: "scripted", Net: "unix"} }

func TestAcceptErrorsPass(t *testing.T) {
	inner := mustListen(t, TCP("127.0.0.1:0"))
	l := &scriptedListener{inner: inner, failures: []error{
		&net.OpError{Op: "accept", Err: syscall.EMFILE},
		&net.OpError{Op: "accept", Err: syscall.ENFILE},
		&net.OpError{Op: "accept", Err: syscall.ECONNABORTED},
		&net.OpError{Op: "accept", Err: context.DeadlineExceeded},
	}}
	r := startOn(t, l, TCP(inner.Addr().String()), &Proxy{Route: To(origin(t, echo))})
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Fatal(err)
	}
	var last float64
	for range 4 {
		line := r.log.next("cannot accept a connection, trying again")
		pause := line["pause"].(float64)
		if pause <= last {
			t.Errorf("pause %v after one of %v", pause, last)
		}
		last = pause
	}
}

func TestAcceptErrorsEnd(t *testing.T) {
	for _, err := range []error{net.ErrClosed, &net.OpError{Op: "accept", Err: syscall.EBADF}, syscall.EINVAL, errors.New("no errno")} {
		p := Proxy{Route: To("192.0.2.1:1"), Allow: mustAllow(t, "192.0.2.1:1")}
		got := p.Serve(t.Context(), &scriptedListener{failures: []error{err}})
		if e := wantReason(t, got, ReasonListener); !errors.Is(e, err) {
			t.Errorf("%v does not wrap %v", e, err)
		}
	}
}

func TestClosedListenerEndsServe(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		l, _ := tr.listen(t)
		p := Proxy{Route: To("192.0.2.1:1"), Allow: mustAllow(t, "192.0.2.1:1")}
		served := make(chan error, 1)
		go func() { served <- p.Serve(t.Context(), l) }()
		_ = l.Close()
		wantReason(t, <-served, ReasonListener)
	})
}

func TestOneProxyServesSeveralListeners(t *testing.T) {
	target := origin(t, echo)
	p := Proxy{Route: To(target), Allow: mustAllow(t, target)}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	for range 2 {
		l := mustListen(t, TCP("127.0.0.1:0"))
		serving.Go(func() {
			if err := p.Serve(ctx, l); err != nil {
				t.Error(err)
			}
		})
		if err := roundTrip(ctx, &Dialer{Endpoint: TCP(l.Addr().String())}, "hello"); err != nil {
			t.Error(err)
		}
	}
	cancel()
	serving.Wait()
}

func TestNamesThatLeadWhereTheyMayNot(t *testing.T) {
	reached := make(chan struct{}, 1)
	target := origin(t, func(*net.TCPConn) { reached <- struct{}{} })
	for name, addrs := range map[string][]string{
		"loopback":    {"127.0.0.1"},
		"mapped":      {"::ffff:127.0.0.1"},
		"metadata":    {"169.254.169.254"},
		"metadata v6": {"fd00:ec2::254"},
		"private":     {"10.0.0.1", "192.168.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, transports[2], &Proxy{
				Route:    To(net.JoinHostPort("name.example", portOf(t, target))),
				Resolver: fakeDNS{"name.example": addrs},
			})
			conn := r.dial(t)
			conntest.WantCut(t, conn)
			line := r.log.wantEnd(t, string(ReasonForbiddenAddress))
			if !strings.Contains(line["error"].(string), "if it is meant, list") {
				t.Errorf("the error does not say what to do: %v", line)
			}
		})
	}
	select {
	case <-reached:
		t.Error("the target was reached")
	default:
	}
}

// A listed address opens exactly that address and port to the name.
func TestNameMayLeadToListedAddress(t *testing.T) {
	target := origin(t, echo)
	p := &Proxy{
		Route: To(net.JoinHostPort("name.example", portOf(t, target))),
		// The forbidden ones must be skipped, not dialled and not fatal.
		Resolver: fakeDNS{"name.example": {"169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"}},
	}
	p.Allow = mustAllow(t, p.Route.way.(toTarget).hostport, target)
	r := start(t, transports[2], p)
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	if line := r.log.wantEnd(t, endClosed); line["address"] != target {
		t.Errorf("address %v, want %v", line["address"], target)
	}
}

func TestNextAddressIsTried(t *testing.T) {
	target := origin(t, echo)
	port := portOf(t, target)
	p := &Proxy{
		Route:    To(net.JoinHostPort("name.example", port)),
		Resolver: fakeDNS{"name.example": {"127.0.0.2", "127.0.0.1"}},
	}
	p.Allow = mustAllow(t, p.Route.way.(toTarget).hostport, "127.0.0.1:"+port, "127.0.0.2:"+port)
	r := start(t, transports[2], p)
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	if line := r.log.wantEnd(t, endClosed); line["address"] != target {
		t.Errorf("address %v, want %v", line["address"], target)
	}
}

// Names are resolved for each connection, so a target may move, and what one
// answer broke the next one mends.
func TestTargetMoves(t *testing.T) {
	target := origin(t, echo)
	script := []struct {
		answer []string // nil: no such name
		end    string
	}{
		{[]string{"127.0.0.1"}, endClosed},
		{[]string{"127.0.0.3"}, string(ReasonForbiddenAddress)},
		{nil, string(ReasonResolve)},
		{[]string{}, string(ReasonResolve)},
		{[]string{"127.0.0.1"}, endClosed},
	}
	answers := make(changingDNS, len(script))
	for _, step := range script {
		answers <- step.answer
	}
	p := &Proxy{Route: To(net.JoinHostPort("name.example", portOf(t, target))), Resolver: answers}
	p.Allow = mustAllow(t, p.Route.way.(toTarget).hostport, target)
	r := start(t, transports[2], p)
	for _, step := range script {
		err := roundTrip(t.Context(), &r.Dialer, "hello")
		if (err == nil) != (step.end == endClosed) {
			t.Errorf("answer %v: %v", step.answer, err)
		}
		r.log.wantEnd(t, step.end)
	}
}

// changingDNS answers every question differently.
type changingDNS chan []string

func (d changingDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	answer := <-d
	if answer == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return fakeDNS{strings.TrimSuffix(host, "."): answer}.LookupNetIP(ctx, network, host)
}

func TestDialTimeoutCoversResolving(t *testing.T) {
	p := &Proxy{Route: To("name.example:443"), Resolver: silentDNS{}, DialTimeout: time.Millisecond}
	r := start(t, transports[2], p)
	conntest.WantCut(t, r.dial(t))
	r.log.wantEnd(t, string(ReasonTimeout))
}

type silentDNS struct{}

func (silentDNS) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A resolver that ignores its context holds neither a connection nor Serve.
func TestHungResolver(t *testing.T) {
	t.Run("dial timeout", func(t *testing.T) {
		dns := newHungDNS(t)
		const limit = 2
		r := start(t, transports[2], &Proxy{Route: To("name.example:443"), Resolver: dns, DialTimeout: time.Millisecond, MaxConns: limit})
		for range 3 * limit {
			conntest.WantCut(t, r.dial(t))
			r.log.wantEnd(t, string(ReasonTimeout))
		}
		if n := dns.asked.Load(); n > limit {
			t.Errorf("%d lookups hang at once, with at most %d connections", n, limit)
		}
	})
	t.Run("drain timeout", func(t *testing.T) {
		dns := newHungDNS(t)
		r := start(t, transports[2], &Proxy{Route: To("name.example:443"), Resolver: dns, DialTimeout: time.Hour, DrainTimeout: time.Millisecond})
		conn := r.dial(t)
		<-dns.started
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		conntest.WantCut(t, conn)
		r.log.wantEnd(t, string(ReasonCanceled))
	})
}

// hungDNS answers at the end of the test.
type hungDNS struct {
	asked            atomic.Int64
	started, release chan struct{}
}

func newHungDNS(t *testing.T) *hungDNS {
	d := &hungDNS{started: make(chan struct{}, 1024), release: make(chan struct{})}
	t.Cleanup(func() { close(d.release) })
	return d
}

func (d *hungDNS) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	d.asked.Add(1)
	d.started <- struct{}{}
	<-d.release
	return nil, errors.New("too late")
}

// Shutdown does not wait for a target that does not answer, beyond the drain
// timeout.
func TestShutdownCutsDialling(t *testing.T) {
	p := &Proxy{Route: To("name.example:443"), Resolver: silentDNS{}, DialTimeout: time.Hour, DrainTimeout: time.Millisecond}
	r := start(t, transports[1], p)
	conn := r.dial(t)
	if err := r.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	conntest.WantCut(t, conn)
}
