package vsockproxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestDialErrors(t *testing.T) {
	path := conntest.SocketPath(t)
	stale := leaveStaleSocket(t)
	for _, test := range []struct {
		name   string
		dialer Dialer
		reason Reason
		says   string
	}{
		{"zero", Dialer{}, ReasonInvalidEndpoint, "empty"},
		{"negative timeout", Dialer{Endpoint: Unix(path), Timeout: -1}, ReasonInvalidOptions, "Dialer.Timeout"},
		{"any CID", Dialer{Endpoint: Vsock(AnyCID, 8000)}, ReasonInvalidEndpoint, "for listening"},
		{"vsock port 0", Dialer{Endpoint: Vsock(ParentCID, 0)}, ReasonInvalidEndpoint, "port 0"},
		{"vsock any port", Dialer{Endpoint: Vsock(ParentCID, portAny)}, ReasonInvalidEndpoint, "VMADDR_PORT_ANY"},
		{"hybrid port 0", Dialer{Endpoint: HybridVsock(path, 0)}, ReasonInvalidEndpoint, "port 0"},
		{"tcp port 0", Dialer{Endpoint: TCP("127.0.0.1:0")}, ReasonInvalidEndpoint, "port 0"},
		{"relative path", Dialer{Endpoint: Unix("v.sock")}, ReasonInvalidEndpoint, "not absolute"},
		{"abstract socket", Dialer{Endpoint: Unix("@v")}, ReasonInvalidEndpoint, "not absolute"},
		{"no socket", Dialer{Endpoint: Unix(path)}, ReasonUnreachable, "is the proxy running"},
		{"no hybrid socket", Dialer{Endpoint: HybridVsock(path, 1)}, ReasonUnreachable, "is the proxy running"},
		{"stale socket", Dialer{Endpoint: Unix(stale)}, ReasonRefused, "is the proxy running"},
		{"stale hybrid socket", Dialer{Endpoint: HybridVsock(stale, 1)}, ReasonRefused, "vsock port 1"},
		{"closed TCP port", Dialer{Endpoint: TCP(closedPort(t))}, ReasonRefused, "is the proxy running"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := test.dialer.DialContext(t.Context(), "tcp", "x:1")
			e := wantReason(t, err, test.reason)
			if conn != nil {
				t.Error("a connection beside an error")
			}
			if e.Endpoint != test.dialer.Endpoint {
				t.Errorf("the error is about %v", e.Endpoint)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v; does not say %q", err, test.says)
			}
		})
	}
}

func TestPlainHTTPIsRefused(t *testing.T) {
	for address, refused := range map[string]bool{
		"kms.eu-west-1.amazonaws.com:80":   true,
		"kms.eu-west-1.amazonaws.com:http": true,
		"name.example:HTTP":                true,
		"name.example:080":                 true,
		"name.example:+80":                 true,
		"[::1]:80":                         true,
		":80":                              true,
		"kms.eu-west-1.amazonaws.com:443":  false,
		"name.example:https":               false,
		"name.example:8080":                false,
		"name.example:8000":                false,
		"name.example:65616":               false, // 80 in 16 bits
		"name.example":                     false,
		"80":                               false,
		"fe80::80":                         false,
		"":                                 false,
	} {
		t.Run(address, func(t *testing.T) {
			l := mustListen(t, TCP("127.0.0.1:0"))
			conn, err := (&Dialer{Endpoint: TCP(l.Addr().String())}).DialContext(t.Context(), "tcp", address)
			if !refused {
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.Close()
				return
			}
			wantReason(t, err, ReasonPlaintext)
			if conn != nil {
				t.Error("a connection beside an error")
			}
			if !strings.Contains(err.Error(), "without TLS") {
				t.Errorf("%v does not say why", err)
			}
		})
	}
}

// A client that is redirected from https to http says so, and sends nothing that
// the parent could read.
func TestRedirectToPlainHTTPFails(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		http.Redirect(w, r, "http://example.com/", http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	client := server.Client()
	dialer := Dialer{Endpoint: TCP(server.Listener.Addr().String())}
	var dialled atomic.Int64
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil {
			dialled.Add(1)
		}
		return conn, err
	}
	resp, err := client.Post("https://example.com/", "text/plain", strings.NewReader("secret"))
	if err == nil {
		_ = resp.Body.Close()
	}
	wantReason(t, err, ReasonPlaintext)
	if dialled.Load() != 1 || requests.Load() != 1 {
		t.Errorf("%d connections and %d requests, want one of each", dialled.Load(), requests.Load())
	}
}

func TestDialEndedContext(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		_, e := tr.listen(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := (&Dialer{Endpoint: e}).DialContext(ctx, "", "")
		if e := wantReason(t, err, ReasonCanceled); !errors.Is(e, context.Canceled) && !strings.Contains(e.Error(), "canceled") {
			t.Errorf("%v does not say that it was cancelled", e)
		}
	})
}

// Where there is no AF_VSOCK at all, the error says so by type.
func TestVsockElsewhere(t *testing.T) {
	if runtime.GOOS == "linux" {
		t.Skip("Linux may have AF_VSOCK")
	}
	_, err := (&Dialer{Endpoint: Vsock(ParentCID, 8000)}).DialContext(t.Context(), "", "")
	if wantReason(t, err, ReasonUnsupported); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v is not errors.ErrUnsupported", err)
	}
	_, err = Listen(t.Context(), Vsock(AnyCID, 8000))
	wantReason(t, err, ReasonUnsupported)
}

func TestVsockRefusal(t *testing.T) {
	needVsockLoopback(t)
	l := mustListen(t, Vsock(1, 0))
	e := Vsock(1, vsockPort(t, l))
	_ = l.Close()
	_, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
	wantReason(t, err, ReasonRefused)
}

// leaveStaleSocket does what a process that was killed does.
func leaveStaleSocket(t *testing.T) string {
	t.Helper()
	path := conntest.SocketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	return path
}
