package vsockproxy

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// eachServer runs a test with an HTTPS server of the standard library as it runs in
// an enclave: over every transport, and with PROXY headers before TLS. What
// start returns besides dials it from outside.
func eachServer(t *testing.T, test func(t *testing.T, start func(handler http.HandlerFunc, configure func(*http.Server)) (*httptest.Server, func() (net.Conn, error)))) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, proxied := range []bool{false, true} {
			t.Run(map[bool]string{false: "plain", true: "PROXY"}[proxied], func(t *testing.T) {
				test(t, func(handler http.HandlerFunc, configure func(*http.Server)) (*httptest.Server, func() (net.Conn, error)) {
					l, e := tr.listen(t)
					greeting := ""
					if proxied {
						l, greeting = &proxyV2Listener{Listener: l, timeout: time.Minute}, proxyBytes(0x21, 0x11, v4Addresses)
					}
					server := httptest.NewUnstartedServer(handler)
					_ = server.Listener.Close()
					server.Listener = l
					server.Config.ErrorLog = log.New(io.Discard, "", 0)
					configure(server.Config)
					server.StartTLS()
					t.Cleanup(server.Close)
					return server, func() (net.Conn, error) {
						conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
						if err == nil {
							_, err = io.WriteString(conn, greeting)
						}
						return conn, err
					}
				})
			})
		}
	})
}

// peerOf finds the connection of the peer itself, under TLS and PROXY header.
func peerOf(conn net.Conn) net.Addr {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn.RemoteAddr()
		}
		conn = over.NetConn()
	}
}

type connKey struct{}

func TestHTTPServerKnowsItsPeer(t *testing.T) {
	eachServer(t, func(t *testing.T, start func(http.HandlerFunc, func(*http.Server)) (*httptest.Server, func() (net.Conn, error))) {
		peers := make(chan net.Addr, 1)
		server, dial := start(func(w http.ResponseWriter, r *http.Request) {
			peers <- peerOf(r.Context().Value(connKey{}).(net.Conn))
			_, _ = io.WriteString(w, r.RemoteAddr)
		}, func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
				return context.WithValue(ctx, connKey{}, conn)
			}
		})
		client := httpsClient(server, func(context.Context, string, string) (net.Conn, error) { return dial() })
		remote := get(t, client, "https://example.com/")
		peer := <-peers
		want := peer.String()
		if strings.HasSuffix(t.Name(), "/PROXY") {
			want = "192.0.2.1:1234" // as the header says
		}
		if remote != want {
			t.Errorf("RemoteAddr %q, want %q", remote, want)
		}
		if peer.Network() == "vsock" {
			if a, ok := peer.(*vsock.Addr); !ok || a.ContextID != vsock.Local {
				t.Errorf("the peer is %#v, want one with context ID %d", peer, vsock.Local)
			}
		}
	})
}

// Shutdown closes the listener at once and waits for the request that is on its way.
func TestHTTPServerShutdown(t *testing.T) {
	eachServer(t, func(t *testing.T, start func(http.HandlerFunc, func(*http.Server)) (*httptest.Server, func() (net.Conn, error))) {
		begun, closed := make(chan struct{}), make(chan struct{})
		server, dial := start(func(w http.ResponseWriter, _ *http.Request) {
			close(begun)
			<-closed
			_, _ = io.WriteString(w, "the whole answer")
		}, func(s *http.Server) {
			s.RegisterOnShutdown(func() { close(closed) })
		})
		client := httpsClient(server, func(context.Context, string, string) (net.Conn, error) { return dial() })
		down := make(chan error, 1)
		go func() {
			<-begun
			down <- server.Config.Shutdown(context.Background())
		}()
		if got := get(t, client, "https://example.com/"); got != "the whole answer" {
			t.Errorf("answer %q", got)
		}
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if conn, err := dial(); err == nil {
			_ = conn.Close()
			t.Error("somebody still listens")
		}
	})
}

// The server's own time limits hold for clients that are slow at anything: TLS, the
// request, or the time after it.
func TestHTTPServerTimeouts(t *testing.T) {
	t.Parallel()
	eachServer(t, func(t *testing.T, start func(http.HandlerFunc, func(*http.Server)) (*httptest.Server, func() (net.Conn, error))) {
		server, dial := start(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") }, func(s *http.Server) {
			s.ReadHeaderTimeout = 200 * time.Millisecond
			s.IdleTimeout = time.Millisecond
		})
		roots := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		for _, stops := range []string{"before TLS", "before the request", "in the request", "after the request"} {
			t.Run(stops, func(t *testing.T) {
				conn, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if stops == "before TLS" {
					conntest.WantCut(t, conn)
					return
				}
				client := tls.Client(conn, &tls.Config{ServerName: "example.com", RootCAs: roots})
				if err := client.Handshake(); err != nil {
					t.Skipf("the machine is too busy for the server's limit: %v", err)
				}
				switch stops {
				case "in the request":
					_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost:")
				case "after the request":
					_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
				}
				conntest.WantCut(t, client)
			})
		}
	})
}
