package vsockproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestEcho(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, echo))})
		conn := r.dial(t)
		for range 3 {
			conntest.Write(t, conn, "hello")
			conntest.WantRead(t, conn, "hello")
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
			t.Fatalf("after the end: %q, %v", rest, err)
		}
		line := r.log.wantEnd(t, endClosed)
		if line["bytes_to_target"] != 15.0 || line["bytes_to_enclave"] != 15.0 {
			t.Errorf("byte counts in %v, want 15 each way", line)
		}
	})
}

// The enclave ends its stream first, as a client that has sent its request does,
// and must still get the whole answer.
func TestHalfCloseByEnclave(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		request, answer := conntest.Noise(1, 300_000), conntest.Noise(2, 300_000)
		got := make(chan []byte, 1)
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) {
			all, _ := io.ReadAll(conn)
			got <- all
			_, _ = conn.Write(answer)
		}))})
		conn := r.dial(t)
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(back, answer) {
			t.Errorf("answer of %d bytes, %v; want the %d bytes sent", len(back), err, len(answer))
		}
		if !bytes.Equal(<-got, request) {
			t.Error("the target did not get the request as it was sent")
		}
		r.log.wantEnd(t, endClosed)
	})
}

// The target ends its stream first, and the enclave goes on sending.
func TestHalfCloseByTarget(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		greeting, rest := conntest.Noise(3, 100_000), conntest.Noise(4, 300_000)
		got := make(chan []byte, 1)
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) {
			_, _ = conn.Write(greeting)
			_ = conn.CloseWrite()
			all, _ := io.ReadAll(conn)
			got <- all
		}))})
		conn := r.dial(t)
		first, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(first, greeting) {
			t.Fatalf("greeting of %d bytes, %v; want the %d bytes sent", len(first), err, len(greeting))
		}
		if _, err := conn.Write(rest); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(<-got, rest) {
			t.Error("the target did not get what was sent after its end")
		}
		r.log.wantEnd(t, endClosed)
	})
}

// Both ends write everything before they are done reading: a relay that handles
// one direction at a time locks up.
func TestFullDuplex(t *testing.T) {
	const size = 16 << 20
	eachTransport(t, func(t *testing.T, tr transport) {
		sums := make(chan [32]byte, 2)
		exchange := func(conn conntest.Duplex, seed uint64) (sent [32]byte) {
			var both sync.WaitGroup
			both.Go(func() { sums <- sumOf(conn) })
			h := sha256.New()
			_, _ = io.Copy(io.MultiWriter(conn, h), io.LimitReader(conntest.NoiseReader(seed), size))
			_ = conn.CloseWrite()
			both.Wait()
			return sum(h)
		}
		fromTarget := make(chan [32]byte, 1)
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) { fromTarget <- exchange(conn, 5) }))})
		fromEnclave := exchange(r.dial(t), 6)
		want := map[[32]byte]bool{fromEnclave: true, <-fromTarget: true}
		for range 2 {
			if s := <-sums; !want[s] {
				t.Errorf("a stream arrived with checksum %x, which nobody sent", s)
			}
		}
		line := r.log.wantEnd(t, endClosed)
		if line["bytes_to_target"] != float64(size) || line["bytes_to_enclave"] != float64(size) {
			t.Errorf("byte counts in %v, want %d each way", line, size)
		}
	})
}

func TestTargetCuts(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) {
			_, _ = io.ReadFull(conn, make([]byte, 5))
			_ = conn.SetLinger(0)
		}))})
		conn := r.dial(t)
		conntest.Write(t, conn, "hello")
		conntest.WantCut(t, conn)
		r.log.wantEnd(t, endBroken)
	})
}

// The enclave vanishes in the middle of an answer that never ends.
func TestEnclaveCuts(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		gone := make(chan error, 1)
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) {
			_, err := io.Copy(conn, conntest.NoiseReader(7))
			gone <- err
		}))})
		conn := r.dial(t)
		if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		if err := <-gone; err == nil {
			t.Error("the target could write for ever")
		}
		// Which of the two depends on what the relay notices first.
		line := r.log.next("connection ended")
		if end := line["end"]; end != endBroken && end != endClosed {
			t.Errorf("log line says end=%v, want %s or %s: %v", end, endBroken, endClosed, line)
		}
	})
}

func TestTargetRefuses(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(closedPort(t))})
		conn := r.dial(t)
		conntest.WantCut(t, conn)
		r.log.wantEnd(t, string(ReasonRefused))
	})
}

func TestManyConnections(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, echo))})
		var clients sync.WaitGroup
		for i := range 200 {
			clients.Go(func() {
				if err := roundTrip(t.Context(), &r.Dialer, fmt.Sprintf("connection %d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
		if t.Failed() {
			return // fewer than 200 log lines will come
		}
		for range 200 {
			r.log.wantEnd(t, endClosed)
		}
	})
}

func roundTrip(ctx context.Context, d *Dialer, text string) error {
	conn, err := d.DialContext(ctx, "tcp", "ignored:443")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	if err := conn.(conntest.Duplex).CloseWrite(); err != nil {
		return err
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != text {
		return fmt.Errorf("got %q, %v; want %q", got, err, text)
	}
	return nil
}

func TestMaxConns(t *testing.T) {
	const limit = 2
	eachTransport(t, func(t *testing.T, tr transport) {
		var open, peak atomic.Int64
		l, e := tr.listen(t)
		counting := wrapListener{l, func(conn net.Conn) net.Conn {
			n := open.Add(1)
			for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
			}
			return &countedConn{Wrapped: conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, open: &open}
		}}
		r := startOn(t, counting, e, &Proxy{Route: To(origin(t, echo)), MaxConns: limit})
		var clients sync.WaitGroup
		for i := range 20 {
			clients.Go(func() {
				if err := roundTrip(t.Context(), &r.Dialer, fmt.Sprintf("connection %d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		clients.Wait()
		if p := peak.Load(); p > limit {
			t.Errorf("%d connections were open at once; the limit is %d", p, limit)
		}
	})
}

type countedConn struct {
	conntest.Wrapped
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Wrapped.Close()
}

// A connection that ends by itself within the drain timeout is not cut.
func TestShutdownLetsConnectionsFinish(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, echo)), DrainTimeout: time.Hour})
		conn := r.dial(t)
		conntest.Write(t, conn, "before")
		conntest.WantRead(t, conn, "before")
		stopped := make(chan error, 1)
		go func() { stopped <- r.stop() }()
		// Serve closes the listener first of all.
		for {
			probe, err := r.DialContext(t.Context(), "", "")
			if err != nil {
				break
			}
			_ = probe.Close()
		}
		conntest.Write(t, conn, "after")
		conntest.WantRead(t, conn, "after")
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(conn); len(rest) != 0 || err != nil {
			t.Errorf("after the end: %q, %v", rest, err)
		}
		if err := <-stopped; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestShutdownCutsTransfer(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{
			Route:        To(origin(t, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conntest.NoiseReader(8)) })),
			DrainTimeout: time.Nanosecond,
		})
		conn := r.dial(t)
		if _, err := io.ReadFull(conn, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v, want nil", err)
		}
		conntest.WantCut(t, conn)
		if line := r.log.wantEnd(t, endShutdown); line["error"] != errDrained.Error() {
			t.Errorf("log line: %v", line)
		}
	})
}

func TestIdleConnectionEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, echo)), IdleTimeout: 50 * time.Millisecond})
		conn := r.dial(t)
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
		conntest.WantCut(t, conn)
		r.log.wantEnd(t, endIdle)
	})
}

// Neither end reads: the relay blocks in its writes, and those must time out.
func TestStalledWriteEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ended := make(chan struct{})
		r := start(t, tr, &Proxy{
			Route:       To(origin(t, func(*net.TCPConn) { <-ended })),
			IdleTimeout: 50 * time.Millisecond,
		})
		conn := r.dial(t)
		_, err := io.Copy(conn, conntest.NoiseReader(9))
		if err == nil {
			t.Error("could write for ever to a target that does not read")
		}
		r.log.wantEnd(t, endIdle)
		close(ended)
	})
}

// A panic in one connection ends that connection only.
func TestPanicsAreContained(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, where := range []string{"resolver", "read", "write"} {
			t.Run(where, func(t *testing.T) {
				var armed atomic.Bool
				armed.Store(true)
				target := origin(t, echo)
				p := &Proxy{
					Route:    To(net.JoinHostPort("origin.example", portOf(t, target))),
					Resolver: panickyDNS{where: where, armed: &armed},
				}
				p.Allow = mustAllow(t, p.Route.way.(toTarget).hostport, target)
				l, e := tr.listen(t)
				l = wrapListener{l, func(conn net.Conn) net.Conn {
					return panickyConn{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, where, &armed}
				}}
				r := startOn(t, l, e, p)
				// The cut may come before the first byte, or even before the
				// dial is done.
				if conn, err := r.DialContext(t.Context(), "", ""); err == nil {
					_, _ = io.WriteString(conn, "hello")
					conntest.WantCut(t, conn)
					_ = conn.Close()
				}
				line := r.log.wantEnd(t, endPanic)
				if line["stack"] == nil {
					t.Errorf("no stack in %v", line)
				}
				if err := roundTrip(t.Context(), &r.Dialer, "still there"); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

type panickyDNS struct {
	where string
	armed *atomic.Bool
}

func (d panickyDNS) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	if d.where == "resolver" && d.armed.Swap(false) {
		panic("resolver")
	}
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

type panickyConn struct {
	conntest.Wrapped
	where string
	armed *atomic.Bool
}

func (c panickyConn) Read(b []byte) (int, error) {
	if c.where == "read" && c.armed.Swap(false) {
		panic("read")
	}
	return c.Wrapped.Read(b)
}

func (c panickyConn) Write(b []byte) (int, error) {
	if c.where == "write" && c.armed.Swap(false) {
		panic("write")
	}
	return c.Wrapped.Write(b)
}

// A connection without CloseWrite is closed when both directions have ended.
func TestNoCloseWrite(t *testing.T) {
	l, e := transports[1].listen(t)
	l = wrapListener{l, func(conn net.Conn) net.Conn { return struct{ net.Conn }{conn} }}
	r := startOn(t, l, e, &Proxy{Route: To(origin(t, echo))})
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	r.log.wantEnd(t, endClosed)
}

func sumOf(r io.Reader) [32]byte {
	h := sha256.New()
	_, _ = io.Copy(h, r)
	return sum(h)
}

func sum(h hash.Hash) (s [32]byte) {
	h.Sum(s[:0])
	return s
}

// Somebody who wants no timeouts writes the longest there is.
func TestLongestTimeouts(t *testing.T) {
	const forever = time.Duration(math.MaxInt64)
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{Route: To(origin(t, echo)), DialTimeout: forever, IdleTimeout: forever, DrainTimeout: forever})
		r.Timeout = forever
		conn := r.dial(t)
		for range 3 {
			conntest.Write(t, conn, "hello")
			conntest.WantRead(t, conn, "hello")
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conntest.WantCut(t, conn)
		r.log.wantEnd(t, endClosed)
	})
}

// Who cannot wait for the drain timeout cuts, and each connection's line says so,
// whether bytes flow already or its client has still to say where it wants to go.
func TestCut(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		target := origin(t, echo)
		cut := make(chan struct{})
		l, e := tr.listen(t)
		waits := make(chan struct{}, 1)
		l = wrapListener{l, func(conn net.Conn) net.Conn {
			return readSignal{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, waits}
		}}
		r := startOn(t, l, e, &Proxy{Route: Connect(), Allow: mustAllow(t, target), HandshakeTimeout: time.Hour, DrainTimeout: time.Hour, Cut: cut})
		silent := r.dial(t)
		<-waits
		r.Dialer.Connect = true
		conn, err := r.DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")

		close(cut) // ends nothing by itself
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
		if err := r.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
		conntest.WantCut(t, conn)
		conntest.WantCut(t, silent)
		// The silent one counts, too, although nothing is relayed.
		for ends, told := 0, false; ends < 2 || !told; {
			switch line := <-r.log.lines; line["msg"] {
			case "cut the connections within the drain timeout":
				if told = true; line["open"] != 2.0 {
					t.Errorf("log line: %v", line)
				}
			case "connection ended":
				if ends++; line["end"] != endCut || !strings.HasPrefix(fmt.Sprint(line["error"]), "cut at once") {
					t.Errorf("log line: %v", line)
				}
			}
		}
	})
}

// Where no connection is open, none is said to be cut, as by who never drains: Cut has
// then ended before, or with, the context of Serve.
func TestCutOfNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Which comes first, that all have ended or Cut, is chance.
	for range 50 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		p := Proxy{Route: To("127.0.0.1:443"), Allow: mustAllow(t, "127.0.0.1:443"), Cut: ctx.Done(), Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if err := p.Serve(ctx, l); err != nil || log.Len() > 0 {
			t.Fatalf("Serve: %v, log: %s", err, log.String())
		}
	}
}
