package vsockproxy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// transport is one way from enclave to parent that this machine can do.
type transport struct {
	name   string
	listen func(t *testing.T) (net.Listener, Endpoint)
}

var transports = []transport{
	{"hybrid", func(t *testing.T) (net.Listener, Endpoint) {
		e := HybridVsock(conntest.SocketPath(t), 8000)
		return mustListen(t, e), e
	}},
	{"unix", func(t *testing.T) (net.Listener, Endpoint) {
		e := Unix(conntest.SocketPath(t))
		return mustListen(t, e), e
	}},
	{"tcp", func(t *testing.T) (net.Listener, Endpoint) {
		l := mustListen(t, TCP("127.0.0.1:0"))
		return l, TCP(l.Addr().String())
	}},
	{"vsock", func(t *testing.T) (net.Listener, Endpoint) {
		needVsockLoopback(t)
		l := mustListen(t, Vsock(AnyCID, 0))
		return l, Vsock(vsock.Local, l.Addr().(*vsock.Addr).Port)
	}},
}

// eachTransport runs a test over hybrid vsock, Unix sockets and TCP, and over
// AF_VSOCK where the kernel has it.
func eachTransport(t *testing.T, test func(t *testing.T, tr transport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) {
			if tr.name == "vsock" {
				needVsockLoopback(t) // one skip, and not one for each subtest
			}
			test(t, tr)
		})
	}
}

func needVsockLoopback(t *testing.T) {
	t.Helper()
	l, err := Listen(t.Context(), Vsock(vsock.Local, 0))
	if err != nil {
		t.Skipf("no AF_VSOCK loopback on this machine (on Linux: modprobe vsock_loopback): %v", err)
	}
	_ = l.Close()
}

func mustListen(t *testing.T, e Endpoint) net.Listener {
	t.Helper()
	l, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustAllow(t *testing.T, entries ...string) Allowlist {
	t.Helper()
	a, err := ParseAllowlist(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// origin is a TCP server that stands for the target. The handler need not close
// its connection.
func origin(t *testing.T, handle func(conn *net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return l.Addr().String()
}

func echo(conn *net.TCPConn) {
	_, _ = io.Copy(conn, conn)
	_ = conn.CloseWrite()
}

// logBook collects log lines for tests that look at them.
type logBook struct {
	w     *io.PipeWriter
	lines chan map[string]any
}

func newLogBook(t *testing.T) *logBook {
	r, w := io.Pipe()
	b := &logBook{w: w, lines: make(chan map[string]any, 4096)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			line := make(map[string]any)
			if json.Unmarshal(scanner.Bytes(), &line) == nil {
				b.lines <- line
			}
		}
	}()
	t.Cleanup(func() {
		_ = w.Close()
		<-done
	})
	return b
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(b.w, nil)) }

// next waits for the next line with the message.
func (b *logBook) next(msg string) map[string]any {
	for line := range b.lines {
		if line["msg"] == msg {
			return line
		}
	}
	return nil
}

func (b *logBook) wantEnd(t *testing.T, end string) map[string]any {
	t.Helper()
	line := b.next("connection ended")
	if line["end"] != end {
		t.Errorf("log line says end=%v, want %s: %v", line["end"], end, line)
	}
	return line
}

// running is a proxy under test.
type running struct {
	Dialer
	log  *logBook
	stop func() error // ends the context and waits for Serve
}

// start serves p, with its target on the allowlist if that is empty.
func start(t *testing.T, tr transport, p *Proxy) *running {
	t.Helper()
	l, e := tr.listen(t)
	return startOn(t, l, e, p)
}

func startOn(t *testing.T, l net.Listener, e Endpoint, p *Proxy) *running {
	t.Helper()
	// Far beyond the defaults: a busy machine must not fail a test.
	r := &running{Dialer: Dialer{Endpoint: e, Timeout: time.Minute}, log: newLogBook(t)}
	if p.DialTimeout == 0 {
		p.DialTimeout = time.Minute
	}
	p.Logger = r.log.logger()
	if to, ok := p.Route.way.(toTarget); ok && p.Allow.list == nil && p.AllowFrom == nil {
		p.Allow = mustAllow(t, to.hostport)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, l) }()
	stopped := false
	r.stop = func() error {
		cancel()
		if stopped {
			return nil
		}
		stopped = true
		return <-served
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

func (r *running) dial(t *testing.T) conntest.Duplex {
	t.Helper()
	conn, err := r.DialContext(t.Context(), "tcp", "ignored.example:443")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(conntest.Duplex)
}

// wantReason checks the type and the reason of an error and returns it.
func wantReason(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %T %v, want *Error with reason %s", err, err, want)
	}
	if e.Reason != want {
		t.Fatalf("reason %s, want %s: %v", e.Reason, want, err)
	}
	return e
}

// fakeDNS answers from a map, and only to absolute names: to others a real
// resolver applies a search list.
type fakeDNS map[string][]string

func (d fakeDNS) LookupNetIP(_ context.Context, network, host string) ([]netip.Addr, error) {
	name, absolute := strings.CutSuffix(host, ".")
	texts, ok := d[name]
	if network != "ip" || !absolute || !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var addrs []netip.Addr
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, nil
}

func portOf(t *testing.T, hostport string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(hostport)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// closedPort returns an address on which nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// wrapListener changes accepted connections.
type wrapListener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

func (l wrapListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(conn), nil
}
