package vsockproxy

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/internal/loopback"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// startForwarder serves a proxy as it runs inside an enclave, and returns the
// address that the enclave's programs dial.
func startForwarder(t *testing.T, p *Proxy) (*running, string) {
	t.Helper()
	l, err := ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Allow.list = rules.List{} // startOn would fill in a nil one
	return startOn(t, l, TCP(l.Addr().String()), p), l.Addr().String()
}

func httpsClient(server *httptest.Server, dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	client := server.Client() // trusts the server's certificate, for example.com
	client.Transport.(*http.Transport).DialContext = dial
	return client
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A program that knows only of an address of its own machine speaks TLS with a
// server that two proxies lead to.
func TestToParent(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, connect := range []bool{false, true} {
			t.Run(map[bool]string{false: "one target", true: "Connect"}[connect], func(t *testing.T) {
				server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from far away") }))
				t.Cleanup(server.Close)
				target := server.Listener.Addr().String()
				outside := &Proxy{Route: To(target)}
				if connect {
					outside = &Proxy{Route: Connect(), Allow: mustAllow(t, target)}
				}
				parent := start(t, tr, outside)

				forwarder, local := startForwarder(t, &Proxy{Route: ToParent(Dialer{Endpoint: parent.Endpoint, Timeout: time.Minute, Connect: connect}, target)})
				client := httpsClient(server, func(ctx context.Context, network, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, network, local)
				})
				if got := get(t, client, "https://example.com/"); got != "from far away" {
					t.Errorf("answer %q", got)
				}
				line := forwarder.log.wantLeft(t)
				if line["target"] != target || line["address"] != nil || line["bytes_to_enclave"] != nil {
					t.Errorf("log line %v, want target %s and no names of another route", line, target)
				}
				for _, name := range []string{"bytes_to_parent", "bytes_to_client"} {
					if n, ok := line[name].(float64); !ok || n == 0 {
						t.Errorf("log line %v has no %s", line, name)
					}
				}
				parent.log.wantLeft(t)
			})
		}
	})
}

// What the parent refuses ends as a closed connection in the program, and as words
// in the forwarder's log.
func TestToParentRefused(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		parent := startConnect(t, tr, &Proxy{Allow: mustAllow(t, "name.example:443")})
		forwarder, local := startForwarder(t, &Proxy{Route: ToParent(Dialer{Endpoint: parent.Endpoint, Timeout: time.Minute, Connect: true}, "other.example:443")})
		wantRefusal := func(reason Reason, says string) {
			t.Helper()
			conn, err := net.Dial("tcp", local)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conntest.WantCut(t, conn)
			line := forwarder.log.wantEnd(t, string(reason))
			if text, _ := line["error"].(string); line["target"] != "other.example:443" || !strings.Contains(text, says) {
				t.Errorf("log line %v, want target other.example:443 and %q", line, says)
			}
		}
		wantRefusal(ReasonNotAllowed, "is not on the allowlist")
		if err := parent.stop(); err != nil {
			t.Fatal(err)
		}
		if tr.name == "hybrid" || tr.name == "unix" {
			wantRefusal(ReasonUnreachable, "is the proxy running")
		} else {
			wantRefusal(ReasonRefused, "proxy running")
		}
	})
}

// Programs that honour HTTPS_PROXY need no entry in /etc/hosts: their own CONNECT
// passes through to the parent's proxy.
func TestToParentAsHTTPSProxy(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "from far away") }))
		t.Cleanup(server.Close)
		port := portOf(t, server.Listener.Addr().String())
		parent := startConnect(t, tr, &Proxy{
			Allow:    mustAllow(t, "example.com:"+port, "127.0.0.1:"+port),
			Resolver: fakeDNS{"example.com": {"127.0.0.1"}},
		})
		_, local := startForwarder(t, &Proxy{Route: ToParent(Dialer{Endpoint: parent.Endpoint, Timeout: time.Minute}, "")})

		client := server.Client()
		transport := client.Transport.(*http.Transport)
		transport.DialContext = nil // the test server's client has one that ignores the address
		transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: local})
		if got := get(t, client, "https://example.com:"+port+"/"); got != "from far away" {
			t.Errorf("answer %q", got)
		}
	})
}

func TestListenLoopback(t *testing.T) {
	for _, bad := range []string{
		"", "443", "127.0.0.1", ":443", "0.0.0.0:443", "[::]:443", "localhost:443", "192.0.2.1:443", "[fe80::1]:443",
		"[::1%lo]:443", "127.0.0.1:65536", "127.0.0.1:https", "[2001:db8::1]:443", "[::ffff:192.0.2.1]:443",
	} {
		l, err := ListenLoopback(t.Context(), bad)
		if e := wantReason(t, err, ReasonInvalidEndpoint); e.Op != "ListenLoopback" || l != nil {
			t.Errorf("%q: %v, %v", bad, l, err)
		}
	}
	l, err := ListenLoopback(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = ListenLoopback(t.Context(), l.Addr().String())
	wantReason(t, err, ReasonInUse)
	if err := loopback.Up(); err != nil {
		t.Errorf("the interface is up, and loopback.Up says %v", err)
	}
}

// The forwarder ends no TLS: whoever the parent connects it to has to convince the
// program.
func TestToParentNeedsNoTrust(t *testing.T) {
	l, parent := transports[2].listen(t)
	evil := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = evil.Listener.Close()
	evil.Listener = l
	evil.Config.ErrorLog = log.New(io.Discard, "", 0)
	evil.StartTLS() // with a certificate that nobody else trusts
	t.Cleanup(evil.Close)
	_, local := startForwarder(t, &Proxy{Route: ToParent(Dialer{Endpoint: parent}, "kms.eu-west-1.amazonaws.com:443")})
	_, err := tls.Dial("tcp", local, &tls.Config{ServerName: "kms.eu-west-1.amazonaws.com"})
	if err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("%v, want an error about the certificate", err)
	}
}
