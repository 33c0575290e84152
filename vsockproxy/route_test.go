package vsockproxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface/prefacetest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

func TestServeRefusesBadRoutes(t *testing.T) {
	allow := mustAllow(t, "kms.eu-west-1.amazonaws.com:443")
	enclave := ToEnclave(Vsock(16, 8443))
	parent := Dialer{Endpoint: Vsock(ParentCID, 8000)}
	asking := Dialer{Endpoint: Vsock(ParentCID, 8000), Connect: true}
	for _, test := range []struct {
		name   string
		proxy  Proxy
		reason Reason
		says   string
	}{
		{"To nothing", Proxy{Allow: allow, Route: To("")}, ReasonInvalidOptions, "Proxy.Route"},
		{"To no port", Proxy{Allow: allow, Route: To("a.example")}, ReasonInvalidOptions, "Proxy.Route"},
		{"To what is not listed", Proxy{Allow: allow, Route: To("a.example:443")}, ReasonNotAllowed, "a.example:443"},
		{"Connect without allowlist", Proxy{Route: Connect()}, ReasonInvalidOptions, "Proxy.Allow"},
		{"ServerName without allowlist", Proxy{Route: ServerName(443)}, ReasonInvalidOptions, "Proxy.Allow"},
		{"ServerName with port 0", Proxy{Allow: allow, Route: ServerName(0)}, ReasonInvalidOptions, "port 0"},
		{"ToEnclave nowhere", Proxy{Route: ToEnclave(Endpoint{})}, ReasonInvalidOptions, "endpoint is empty"},
		{"ToEnclave any", Proxy{Route: ToEnclave(Vsock(AnyCID, 8443))}, ReasonInvalidOptions, "for listening"},
		{"ToEnclaveProxyV2 port 0", Proxy{Route: ToEnclaveProxyV2(TCP("127.0.0.1:0"))}, ReasonInvalidOptions, "port 0"},
		{"ToEnclave with allowlist", Proxy{Allow: allow, Route: enclave}, ReasonInvalidOptions, "to the enclave at vsock://16:8443 has no use for it"},
		{"ToParent nowhere", Proxy{Route: ToParent(Dialer{}, "")}, ReasonInvalidEndpoint, "Proxy.Route: the endpoint is empty"},
		{"ToParent any", Proxy{Route: ToParent(Dialer{Endpoint: Vsock(AnyCID, 8000)}, "")}, ReasonInvalidEndpoint, "for listening"},
		{"ToParent without TLS", Proxy{Route: ToParent(parent, "name.example:80")}, ReasonPlaintext, "without TLS"},
		{"ToParent asks for nothing", Proxy{Route: ToParent(asking, "")}, ReasonInvalidConnect, "the target is empty; write host:port"},
		{"ToParent with allowlist", Proxy{Allow: allow, Route: ToParent(asking, "name.example:443")}, ReasonInvalidOptions, "to name.example:443 by the parent at vsock://3:8000 has no use for it"},
		{"ToParent negative timeout", Proxy{Route: ToParent(Dialer{Endpoint: parent.Endpoint, Timeout: -1}, "")}, ReasonInvalidOptions, "Dialer.Timeout"},
		{"negative MaxConnsPerCID", Proxy{Route: enclave, MaxConnsPerCID: -1}, ReasonInvalidOptions, "Proxy.MaxConnsPerCID"},
		{"negative HandshakeTimeout", Proxy{Route: enclave, HandshakeTimeout: -1}, ReasonInvalidOptions, "Proxy.HandshakeTimeout"},
		{"negative MaxLifetime", Proxy{Route: enclave, MaxLifetime: -1}, ReasonInvalidOptions, "Proxy.MaxLifetime"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &scriptedListener{}
			e := wantReason(t, test.proxy.Serve(t.Context(), l), test.reason)
			if !strings.Contains(e.Error(), test.says) {
				t.Errorf("message %q does not say %q", e, test.says)
			}
			if l.accepts != 0 || !l.closed {
				t.Error("accepted before the configuration was checked, or left the listener open")
			}
		})
	}
}

func TestRouteString(t *testing.T) {
	for want, route := range map[string]Route{
		"none":                              {},
		"to a.example:443":                  To("a.example:443"),
		"HTTP CONNECT":                      Connect(),
		"by server name, to port 443":       ServerName(443),
		"to the parent at vsock://3:8000":   ToParent(Dialer{Endpoint: Vsock(ParentCID, 8000)}, ""),
		"to the enclave at vsock://16:8443": ToEnclave(Vsock(16, 8443)),
		"to the enclave at vsock://16:8443, with a PROXY header": ToEnclaveProxyV2(Vsock(16, 8443)),
	} {
		if got := route.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// serveOn accepts from l and hands connections to handle until the test ends.
func serveOn(t *testing.T, l net.Listener, handle func(conn conntest.Duplex)) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = conn.Close() }()
				handle(conn.(conntest.Duplex))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
}

// routed is a route with its far end in place.
type routed struct {
	*running
	dial    func(t *testing.T) conntest.Duplex
	preface []byte // what the far end gets before the stream
}

// eachRoute tests every route over every transport. Far is what a route leads to.
func eachRoute(t *testing.T, test func(t *testing.T, begin func(t *testing.T, p *Proxy, far func(conn conntest.Duplex)) *routed)) {
	toOrigin := func(tr transport, p *Proxy, far func(conntest.Duplex)) func(t *testing.T) (*running, string) {
		return func(t *testing.T) (*running, string) {
			target := origin(t, func(conn *net.TCPConn) { far(conn) })
			name := "name.example:" + portOf(t, target)
			p.Allow = mustAllow(t, name, target)
			p.Resolver = fakeDNS{"name.example": {"127.0.0.1"}}
			switch p.Route.way.(type) {
			case toTarget:
				p.Route = To(name)
			case byServerName:
				p.Route = ServerName(mustTarget(t, target).Port)
			}
			return start(t, chopped(tr), p), name
		}
	}
	eachTransport(t, func(t *testing.T, tr transport) {
		t.Run("To", func(t *testing.T) {
			test(t, func(t *testing.T, p *Proxy, far func(conntest.Duplex)) *routed {
				p.Route = To("")
				r, _ := toOrigin(tr, p, far)(t)
				return &routed{running: r, dial: r.plainDial}
			})
		})
		t.Run("Connect", func(t *testing.T) {
			test(t, func(t *testing.T, p *Proxy, far func(conntest.Duplex)) *routed {
				p.Route = Connect()
				r, name := toOrigin(tr, p, far)(t)
				r.Connect = true
				return &routed{running: r, dial: func(t *testing.T) conntest.Duplex { return r.dialTo(t, name) }}
			})
		})
		t.Run("ServerName", func(t *testing.T) {
			test(t, func(t *testing.T, p *Proxy, far func(conntest.Duplex)) *routed {
				p.Route = ServerName(1)
				r, _ := toOrigin(tr, p, far)(t)
				hello := prefacetest.RealHello(t, &tls.Config{ServerName: "name.example"})
				return &routed{running: r, preface: hello, dial: func(t *testing.T) conntest.Duplex {
					conn := r.plainDial(t)
					conntest.Write(t, conn, string(hello))
					return conn
				}}
			})
		})
		t.Run("ToParent", func(t *testing.T) {
			test(t, func(t *testing.T, p *Proxy, far func(conntest.Duplex)) *routed {
				l, parent := tr.listen(t)
				serveOn(t, l, far)
				p.Route = ToParent(Dialer{Endpoint: parent, Timeout: time.Minute}, "")
				r := startInbound(t, p)
				return &routed{running: r, dial: r.plainDial}
			})
		})
		for name, route := range map[string]func(Endpoint) Route{"ToEnclave": ToEnclave, "ToEnclaveProxyV2": ToEnclaveProxyV2} {
			t.Run(name, func(t *testing.T) {
				test(t, func(t *testing.T, p *Proxy, far func(conntest.Duplex)) *routed {
					l, enclave := tr.listen(t)
					serveOn(t, l, far)
					p.Route = route(enclave)
					r := startInbound(t, p)
					preface := []byte(nil)
					if p.Route.way.(intoEnclave).header {
						preface = make([]byte, 28)
					}
					return &routed{running: r, dial: r.plainDial, preface: preface}
				})
			})
		}
	})
}

func mustTarget(t *testing.T, s string) rules.Target {
	t.Helper()
	parsed, err := rules.ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// startInbound serves p on TCP, the way in.
func startInbound(t *testing.T, p *Proxy) *running {
	t.Helper()
	tr := chopped(transports[2])
	l, e := tr.listen(t)
	p.Allow.list = rules.List{} // startOn would fill in a nil one
	return startOn(t, l, e, p)
}

// chopped makes the proxy read and write in small pieces of random sizes.
func chopped(tr transport) transport {
	listen := tr.listen
	tr.listen = func(t *testing.T) (net.Listener, Endpoint) {
		l, e := listen(t)
		return wrapListener{l, func(conn net.Conn) net.Conn {
			return &choppedConn{Wrapped: conntest.Wrapped{Duplex: conn.(conntest.Duplex)}}
		}}, e
	}
	return tr
}

type choppedConn struct{ conntest.Wrapped }

func piece(b []byte) []byte { return b[:min(len(b), 1+rand.IntN(1<<rand.IntN(14)))] }

func (c *choppedConn) Read(b []byte) (int, error) { return c.Wrapped.Read(piece(b)) }

func (c *choppedConn) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = c.Wrapped.Write(piece(b[n:]))
		n += m
	}
	return n, err
}

func wantPreface(t *testing.T, r io.Reader, want []byte) {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Errorf("read the preface: %v", err)
	}
	if len(want) != 28 && !bytes.Equal(got, want) { // the PROXY header has its own test
		t.Error("the far end did not get the first bytes as they were sent")
	}
}

// Either side ends its stream first, and the other's arrives whole.
func TestRoutesCarryHalfClose(t *testing.T) {
	eachRoute(t, func(t *testing.T, begin func(*testing.T, *Proxy, func(conntest.Duplex)) *routed) {
		request, answer := conntest.Noise(11, 200_000), conntest.Noise(12, 200_000)
		t.Run("by the client", func(t *testing.T) {
			var r *routed
			ready := make(chan struct{})
			r = begin(t, &Proxy{}, func(conn conntest.Duplex) {
				<-ready
				wantPreface(t, conn, r.preface)
				if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, request) {
					t.Errorf("request of %d bytes, %v", len(got), err)
				}
				_, _ = conn.Write(answer)
			})
			close(ready)
			conn := r.dial(t)
			_, _ = conn.Write(request)
			_ = conn.CloseWrite()
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("answer of %d bytes, %v", len(got), err)
			}
			r.log.wantEnd(t, endClosed)
		})
		t.Run("by the far end", func(t *testing.T) {
			var r *routed
			ready := make(chan struct{})
			r = begin(t, &Proxy{}, func(conn conntest.Duplex) {
				<-ready
				_, _ = conn.Write(answer)
				_ = conn.CloseWrite()
				wantPreface(t, conn, r.preface)
				if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, request) {
					t.Errorf("request of %d bytes, %v", len(got), err)
				}
			})
			close(ready)
			conn := r.dial(t)
			if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("answer of %d bytes, %v", len(got), err)
			}
			_, _ = conn.Write(request)
			_ = conn.CloseWrite()
			r.log.wantEnd(t, endClosed)
		})
	})
}

// Both ends send at once, and the proxy sees it in pieces of all sizes: every byte
// arrives, in order, both ways.
func TestRoutesCarryEveryByte(t *testing.T) {
	t.Parallel()
	const size, conns = 1 << 20, 4
	eachRoute(t, func(t *testing.T, begin func(*testing.T, *Proxy, func(conntest.Duplex)) *routed) {
		exchange := func(conn conntest.Duplex, preface []byte, seed uint64) (sent, received [32]byte) {
			var both sync.WaitGroup
			both.Go(func() {
				wantPreface(t, conn, preface)
				received = sumOf(conn)
			})
			h := sha256.New()
			_, _ = io.Copy(io.MultiWriter(conn, h), io.LimitReader(conntest.NoiseReader(seed), size))
			_ = conn.CloseWrite()
			both.Wait()
			return sum(h), received
		}
		type sums struct{ sent, received [32]byte }
		farSums := make(chan sums, conns)
		var r *routed
		ready := make(chan struct{})
		r = begin(t, &Proxy{}, func(conn conntest.Duplex) {
			<-ready
			var s sums
			s.sent, s.received = exchange(conn, r.preface, 99)
			farSums <- s
		})
		close(ready)
		var clients sync.WaitGroup
		fromClients := make(chan [32]byte, conns)
		fromFar := sumOf(io.LimitReader(conntest.NoiseReader(99), size))
		for i := range conns {
			conn := r.dial(t)
			clients.Go(func() {
				sent, received := exchange(conn, nil, uint64(i))
				fromClients <- sent
				if received != fromFar {
					t.Errorf("connection %d: the client got something else than was sent", i)
				}
			})
		}
		clients.Wait()
		sent, received := map[[32]byte]bool{}, map[[32]byte]bool{}
		for range conns {
			sent[<-fromClients] = true
			s := <-farSums
			received[s.received] = true
			if s.sent != fromFar {
				t.Error("the far end could not send all")
			}
		}
		for s := range received {
			if !sent[s] {
				t.Errorf("a stream arrived with checksum %x, which nobody sent", s)
			}
		}
		if len(received) != conns {
			t.Errorf("%d different streams arrived, want %d", len(received), conns)
		}
		for range conns {
			line := r.log.wantEnd(t, endClosed)
			out, in := "bytes_to_target", "bytes_to_enclave"
			switch {
			case line["bytes_to_parent"] != nil:
				out, in = "bytes_to_parent", "bytes_to_client"
			case line["bytes_to_client"] != nil:
				out, in = "bytes_to_enclave", "bytes_to_client"
			}
			toFar, toClient := line[out], line[in]
			if toFar != float64(size+len(r.preface)) || toClient != float64(size) {
				t.Errorf("byte counts in %v", line)
			}
		}
	})
}

// A TLS client that knows nothing of the proxy reaches the servers it names.
func TestServerNameReachesListedServers(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.TLS.ServerName) }))
		t.Cleanup(server.Close)
		address := server.Listener.Addr().String()
		port := portOf(t, address)
		r := start(t, tr, &Proxy{
			Route:    ServerName(mustTarget(t, address).Port),
			Allow:    mustAllow(t, "example.com:"+port, "gone.example:"+port, address),
			Resolver: fakeDNS{"example.com": {"127.0.0.1"}},
		})
		client := server.Client()
		client.Transport.(*http.Transport).DialContext = r.DialContext
		resp, err := client.Get("https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != "example.com" || !resp.TLS.HandshakeComplete || resp.TLS.PeerCertificates[0].VerifyHostname("example.com") != nil {
			t.Errorf("answer %q, %+v", body, resp.TLS)
		}
		client.CloseIdleConnections()
		if line := r.log.wantLeft(t); line["target"] != "example.com:"+port || line["address"] != address {
			t.Errorf("log line %v", line)
		}
		for name, reason := range map[string]Reason{"other.example": ReasonNotAllowed, "gone.example": ReasonResolve} {
			if resp, err := client.Get("https://" + name + "/"); err == nil {
				_ = resp.Body.Close()
				t.Errorf("%s was reached", name)
			}
			if line := r.log.wantEnd(t, string(reason)); line["target"] != name+":"+port {
				t.Errorf("log line %v", line)
			}
		}
	})
}

func TestServerNameRefusals(t *testing.T) {
	reached := make(chan struct{}, 1)
	target := origin(t, func(*net.TCPConn) { reached <- struct{}{} })
	eachTransport(t, func(t *testing.T, tr transport) {
		r := start(t, tr, &Proxy{
			Route:    ServerName(mustTarget(t, target).Port),
			Allow:    mustAllow(t, "name.example:"+portOf(t, target), target),
			Resolver: fakeDNS{"name.example": {"127.0.0.1"}},
		})
		for _, test := range prefacetest.HelloRefusals(t) {
			t.Run(test.Name, func(t *testing.T) {
				conn := r.plainDial(t)
				_, _ = conn.Write(test.Wire) // may fail when it is too long to be read
				_ = conn.CloseWrite()
				if answer, _ := io.ReadAll(conn); len(answer) != 0 {
					t.Errorf("answered with %q", answer)
				}
				line := r.log.wantEnd(t, string(prefaceReasons[test.Kind]))
				if text, _ := line["error"].(string); !strings.Contains(text, test.Says) {
					t.Errorf("log line %v does not say %q", line, test.Says)
				}
			})
		}
	})
	select {
	case <-reached:
		t.Error("the target was reached")
	default:
	}
}

// Clients that send one byte now and then, and would go on for ever.
func TestSlowClientsAreCutOff(t *testing.T) {
	for name, test := range map[string]struct {
		route  Route
		send   []byte
		answer string
	}{
		"Connect":    {Connect(), []byte("CONNECT name.example:443 HTTP/1.1\r\nA: " + strings.Repeat("b", preface.MaxConnectRequest/2)), "HTTP/1.1 408 timeout: "},
		"ServerName": {ServerName(443), prefacetest.InRecords(prefacetest.MadeHello(prefacetest.Extension(21, make([]byte, 4000)), prefacetest.SNI("name.example")), 100)[:4000], ""},
	} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				r := start(t, tr, &Proxy{Route: test.route, Allow: mustAllow(t, "name.example:443"), HandshakeTimeout: 30 * time.Millisecond})
				conn := r.plainDial(t)
				var sending sync.WaitGroup
				over := make(chan struct{})
				sending.Go(func() {
					tick := time.NewTicker(time.Millisecond)
					defer tick.Stop()
					for i := range test.send {
						if _, err := conn.Write(test.send[i : i+1]); err != nil {
							return
						}
						select {
						case <-tick.C:
						case <-over:
							return
						}
					}
				})
				answer, _ := io.ReadAll(conn) // a reset is as good as an end
				close(over)
				sending.Wait()
				if !strings.HasPrefix(string(answer), test.answer) || test.answer == "" && len(answer) > 0 {
					t.Errorf("answer %q, want %q", answer, test.answer)
				}
				_ = conn.Close()
				line := r.log.wantEnd(t, string(ReasonTimeout))
				if !strings.Contains(line["error"].(string), "handshake timeout of 30ms") {
					t.Errorf("log line %v", line)
				}
			})
		})
	}
}

// A client that has said nothing does not hold up the end of Serve.
func TestShutdownCutsHandshakes(t *testing.T) {
	for name, route := range map[string]Route{"Connect": Connect(), "ServerName": ServerName(443)} {
		t.Run(name, func(t *testing.T) {
			eachTransport(t, func(t *testing.T, tr transport) {
				l, e := tr.listen(t)
				waits := make(chan struct{}, 1)
				l = wrapListener{l, func(conn net.Conn) net.Conn {
					return readSignal{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, waits}
				}}
				r := startOn(t, l, e, &Proxy{Route: route, Allow: mustAllow(t, "name.example:443"), HandshakeTimeout: time.Hour, DrainTimeout: time.Millisecond})
				conn := r.plainDial(t)
				<-waits
				if err := r.stop(); err != nil {
					t.Errorf("Serve: %v", err)
				}
				_ = conn.Close()
				r.log.wantEnd(t, string(ReasonCanceled))
			})
		})
	}
}

// readSignal tells that somebody is about to read.
type readSignal struct {
	conntest.Wrapped
	waits chan struct{}
}

func (c readSignal) Read(b []byte) (int, error) {
	select {
	case c.waits <- struct{}{}:
	default:
	}
	return c.Wrapped.Read(b)
}

// fromCID makes connections look as if they came over vsock: this machine may
// have none.
type fromCID struct {
	conntest.Wrapped
	cid uint32
}

func (c fromCID) RemoteAddr() net.Addr { return &vsock.Addr{ContextID: c.cid, Port: 1} }

func TestMaxConnsPerCID(t *testing.T) {
	cids := make(chan uint32, 1)
	l, e := transports[1].listen(t)
	l = wrapListener{l, func(conn net.Conn) net.Conn { return fromCID{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, <-cids} }}
	r := startOn(t, l, e, &Proxy{Route: To(origin(t, echo)), MaxConnsPerCID: 2})
	from := func(cid uint32) conntest.Duplex {
		cids <- cid
		return r.plainDial(t)
	}
	speak := func(conn conntest.Duplex) {
		t.Helper()
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
	}
	first, second := from(16), from(16)
	speak(first)
	speak(second)
	for range 3 {
		conntest.WantCut(t, from(16))
		line := r.log.wantEnd(t, string(ReasonLimit))
		if text := line["error"].(string); !strings.Contains(text, "context ID 16 has 2 connections open") {
			t.Errorf("log line %v", line)
		}
	}
	other := from(17)
	speak(other)
	_ = first.Close()
	r.log.wantEnd(t, endClosed)
	speak(from(16))
	conntest.WantCut(t, from(16))
	r.log.wantEnd(t, string(ReasonLimit))
	speak(second)
	speak(other)
}

func TestMaxConnsPerCIDForgets(t *testing.T) {
	a := newAdmission(1, 1, slog.New(slog.DiscardHandler))
	for cid := range uint32(100) {
		leave, err := a.admit(fromCID{cid: cid})
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	if len(a.perCID) != 0 {
		t.Errorf("%d context IDs are remembered for ever", len(a.perCID))
	}
}

// The same over the real thing, where there is one.
func TestMaxConnsPerCIDOverVsock(t *testing.T) {
	r := start(t, transports[3], &Proxy{Route: To(origin(t, echo)), MaxConnsPerCID: 1})
	conn := r.plainDial(t)
	conntest.Write(t, conn, "hello")
	conntest.WantRead(t, conn, "hello")
	conntest.WantCut(t, r.plainDial(t))
	r.log.wantEnd(t, string(ReasonLimit))
}

// A connection that is never idle ends all the same.
func TestMaxLifetime(t *testing.T) {
	eachRoute(t, func(t *testing.T, begin func(*testing.T, *Proxy, func(conntest.Duplex)) *routed) {
		gone := make(chan error, 1)
		r := begin(t, &Proxy{MaxLifetime: 20 * time.Millisecond}, func(conn conntest.Duplex) {
			_, err := io.Copy(conn, conntest.NoiseReader(13))
			gone <- err
		})
		conn := r.dial(t)
		_, _ = io.Copy(io.Discard, conn)
		if err := <-gone; err == nil {
			t.Error("the far end could write for ever")
		}
		r.log.wantEnd(t, endLifetime)
	})
}

// A lifetime that is not over changes nothing.
func TestMaxLifetimeNotReached(t *testing.T) {
	r := start(t, transports[1], &Proxy{Route: To(origin(t, echo)), MaxLifetime: 1<<63 - 1})
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	r.log.wantEnd(t, endClosed)
}

// The enclave's program has gone.
func TestInboundWithoutEnclave(t *testing.T) {
	r := startInbound(t, &Proxy{Route: ToEnclave(HybridVsock(conntest.SocketPath(t), 8443))})
	conntest.WantCut(t, r.plainDial(t))
	line := r.log.wantEnd(t, string(ReasonUnreachable))
	if target, _ := line["target"].(string); !strings.HasPrefix(target, "hybrid:///") {
		t.Errorf("log line %v does not say which enclave", line)
	}
	if text := line["error"].(string); !strings.Contains(text, "there is no enclave") {
		t.Errorf("%q is no advice for a way in", text)
	}
}

// A panic while the client says where it wants to go ends that connection only.
func TestHandshakePanicsAreContained(t *testing.T) {
	target := origin(t, echo)
	for _, route := range []Route{Connect(), ServerName(mustTarget(t, target).Port)} {
		for _, where := range []string{"read", "resolver", "write"} {
			t.Run(route.String()+", "+where, func(t *testing.T) {
				var armed atomic.Bool
				armed.Store(true)
				name := "name.example:" + portOf(t, target)
				l, e := transports[1].listen(t)
				l = wrapListener{l, func(conn net.Conn) net.Conn {
					return panickyConn{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, where, &armed}
				}}
				r := startOn(t, l, e, &Proxy{Route: route, Allow: mustAllow(t, name, target), Resolver: panickyDNS{where, &armed}})
				if where == "write" && route != Connect() {
					return // nothing is written to the client before the stream
				}
				opening := "CONNECT " + name + " HTTP/1.1\r\n\r\n"
				if route != Connect() {
					opening = string(prefacetest.InRecords(prefacetest.MadeHello(prefacetest.SNI("name.example")), 100))
				}
				conn := r.plainDial(t)
				_, _ = io.WriteString(conn, opening)
				conntest.WantCut(t, conn)
				_ = conn.Close()
				r.log.wantEnd(t, endPanic)

				conn = r.plainDial(t)
				conntest.Write(t, conn, opening)
				_ = conn.CloseWrite()
				conntest.WantCut(t, conn)
				r.log.wantEnd(t, endClosed)
			})
		}
	}
}

// TLS from outside ends in the enclave.
func TestInboundTLS(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		l, enclave := tr.listen(t)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from the enclave") }))
		_ = server.Listener.Close()
		server.Listener = l
		server.StartTLS()
		t.Cleanup(server.Close)
		r := startInbound(t, &Proxy{Route: ToEnclave(enclave)})
		client := server.Client()
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.Endpoint.where)
		}
		resp, err := client.Get("https://example.com/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(body) != "from the enclave" {
			t.Errorf("answer %q", body)
		}
		client.CloseIdleConnections()
		r.log.wantLeft(t)
	})
}

// wantLeft is wantEnd for a TLS client that closes its connection. If the server's
// last word comes in that very moment, a Unix socket says that it was reset.
func (b *logBook) wantLeft(t *testing.T) map[string]any {
	t.Helper()
	line := b.next("connection ended")
	if end := line["end"]; end != endClosed && end != endBroken {
		t.Errorf("log line says end=%v, want %s or %s: %v", end, endClosed, endBroken, line)
	}
	return line
}

// addressed is a connection with addresses of our choice.
type addressed struct {
	net.Conn
	remote, local net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }
func (a addressed) LocalAddr() net.Addr  { return a.local }

// The bytes are written down from section 2.2 of the PROXY protocol's
// specification.
func TestProxyHeader(t *testing.T) {
	const signature = "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A"
	tcp := func(s string) net.Addr {
		a, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	v6 := signature + "\x21\x21\x00\x24" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
		"\x04\xd2\x01\xbb"
	v4 := signature + "\x21\x11\x00\x0c" + "\xc0\x00\x02\x01" + "\xc6\x33\x64\x02" + "\x04\xd2" + "\x01\xbb"
	unknown := signature + "\x21\x00\x00\x00"
	for name, test := range map[string]struct {
		from, to net.Addr
		want     string
	}{
		"IPv4":        {tcp("192.0.2.1:1234"), tcp("198.51.100.2:443"), v4},
		"mapped IPv4": {&net.TCPAddr{IP: net.ParseIP("192.0.2.1").To16(), Port: 1234}, &net.TCPAddr{IP: net.ParseIP("198.51.100.2").To16(), Port: 443}, v4},
		"IPv6":        {tcp("[2001:db8::1]:1234"), tcp("[2001:db8::2]:443"), v6},
		"zone":        {&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1234, Zone: "eth0"}, tcp("[2001:db8::2]:443"), v6},
		"mixed": {tcp("192.0.2.1:1234"), tcp("[2001:db8::2]:443"), signature + "\x21\x21\x00\x24" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" +
			"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
			"\x04\xd2\x01\xbb"},
		"unix":  {&net.UnixAddr{}, &net.UnixAddr{Name: "/x", Net: "unix"}, unknown},
		"vsock": {&vsock.Addr{ContextID: 3, Port: 1}, &vsock.Addr{ContextID: 2, Port: 2}, unknown},
		"none":  {nil, nil, unknown},
		"empty": {(*net.TCPAddr)(nil), &net.TCPAddr{}, unknown},
	} {
		if got := string(preface.FormatProxyHeader(ipAddress(test.from), ipAddress(test.to))); got != test.want {
			t.Errorf("%s: % x\nwant % x", name, got, test.want)
		}
	}
}

// The header goes first, once, and names the client as the client knows itself.
func TestProxyHeaderArrives(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		l, enclave := tr.listen(t)
		got := make(chan []byte, 1)
		serveOn(t, l, func(conn conntest.Duplex) {
			all, _ := io.ReadAll(conn)
			got <- all
		})
		r := startInbound(t, &Proxy{Route: ToEnclaveProxyV2(enclave)})
		conn := r.plainDial(t)
		conntest.Write(t, conn, "hello")
		_ = conn.CloseWrite()
		from, to := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
		want := fmt.Sprintf("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01%c%c%c%chello", 0, 0, 0, 0)
		b := []byte(want)
		for i, port := range []int{from.Port, to.Port} {
			b[len(b)-9+2*i], b[len(b)-8+2*i] = byte(port>>8), byte(port)
		}
		if all := <-got; !bytes.Equal(all, b) {
			t.Errorf("got % x\nwant % x", all, b)
		}
		r.log.wantEnd(t, endClosed)
	})
}
