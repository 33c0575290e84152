package vsockproxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// A proxy and an HTTPS client meet over hybrid vsock, as they would over vsock
// in a Nitro enclave. TLS is between the client and the server only.
func Example() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello, enclave")
	}))
	defer server.Close()
	target := server.Listener.Addr().String()

	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// In an enclave and its parent: Vsock(ParentCID, 8000) and Vsock(AnyCID, 8000).
	endpoint := vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8000)

	// On the parent.
	ctx, stop := context.WithCancel(context.Background())
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, listener) }()

	// In the enclave.
	dialer := &vsockproxy.Dialer{Endpoint: endpoint}
	client := server.Client() // trusts the test server's certificate
	client.Transport.(*http.Transport).DialContext = dialer.DialContext
	resp, err := client.Get("https://example.com/")
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Println(string(body), err)
	client.CloseIdleConnections()

	stop()
	fmt.Println("proxy ended:", <-served)
	// Output:
	// hello, enclave <nil>
	// proxy ended: <nil>
}

// One vsock port leads to every server of the allowlist: the client in the enclave
// asks for each by HTTP CONNECT.
func ExampleConnect() {
	hello := func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "this is "+r.Host) }
	kms := httptest.NewTLSServer(http.HandlerFunc(hello))
	defer kms.Close()
	sts := httptest.NewTLSServer(http.HandlerFunc(hello))
	defer sts.Close()

	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	endpoint := vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8000)

	// On the parent.
	ctx, stop := context.WithCancel(context.Background())
	allow, err := vsockproxy.ParseAllowlist(kms.Listener.Addr().String(), sts.Listener.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &vsockproxy.Proxy{Route: vsockproxy.Connect(), Allow: allow}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, listener) }()

	// In the enclave.
	dialer := &vsockproxy.Dialer{Endpoint: endpoint, Connect: true}
	client := kms.Client() // trusts the certificate that both test servers have
	client.Transport.(*http.Transport).DialContext = dialer.DialContext
	for _, server := range []*httptest.Server{kms, sts} {
		resp, err := client.Get(server.URL)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		fmt.Println(string(body) == "this is "+server.Listener.Addr().String(), err)
	}
	_, err = client.Get("https://s3.eu-west-1.amazonaws.com/")
	var refused *vsockproxy.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Reason)
		fmt.Println(refused.Detail)
	}
	client.CloseIdleConnections()

	stop()
	fmt.Println("proxy ended:", <-served)
	// Output:
	// true <nil>
	// true <nil>
	// not-allowed
	// asked for s3.eu-west-1.amazonaws.com:443, the proxy answered 403 "not-allowed: the target s3.eu-west-1.amazonaws.com:443 is not on the allowlist for this client; list it, or correct it"
	// proxy ended: <nil>
}

func ExampleParseEndpoint() {
	e, err := vsockproxy.ParseEndpoint("vsock://3:8000")
	fmt.Println(e == vsockproxy.Vsock(vsockproxy.ParentCID, 8000), err)

	_, err = vsockproxy.ParseEndpoint("vsock://parent:8000")
	fmt.Println(err)
	// Output:
	// true <nil>
	// vsockproxy: ParseEndpoint: invalid-endpoint: "vsock://parent:8000": context ID "parent" is not a decimal number between 0 and 4294967295; accepted forms: vsock://3:8000  hybrid:///run/v.sock?port=8000  unix:///run/p.sock  tcp://127.0.0.1:8000
}

func ExampleParseAllowlist() {
	allow, err := vsockproxy.ParseAllowlist(
		"kms.eu-west-1.amazonaws.com:443",      // a name
		"*.Example.com:8000-8100 cid=16,17",    // names below it, for two enclaves
		"10.0.3.0/24:443", "[2600:1f18::]:443", // where a name may lead, or a client ask for
	)
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range allow.Entries() {
		fmt.Println(entry)
	}

	_, err = vsockproxy.ParseAllowlist("kms.eu-west-1.amazonaws.com:443", "*.co.uk:443")
	fmt.Println(err)
	// Output:
	// kms.eu-west-1.amazonaws.com:443
	// *.example.com:8000-8100 cid=16,17
	// 10.0.3.0/24:443
	// [2600:1f18::]:443
	// vsockproxy: ParseAllowlist: invalid-allowlist: entry 2 of the allowlist: "*.co.uk:443": anybody can register a name below co.uk, so the pattern permits everybody's; add the label of the owner that is meant
}

// What an allowlist permits, for people who check it.
func ExampleAllowlist_Explain() {
	allow, err := vsockproxy.ParseAllowlist("kms.eu-west-1.amazonaws.com:443", "10.0.3.0/24:443 cid=16")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range allow.Explain() {
		fmt.Println(e.Words)
		for _, w := range e.Warnings {
			fmt.Println("  warning:", w)
		}
	}
	// Output:
	// everybody may reach kms.eu-west-1.amazonaws.com, port 443
	// the enclaves with context ID 16 may reach the addresses of 10.0.3.0/24, port 443
	//   warning: not public: private (RFC 1918); names on the list may lead there, too
}

// An HTTPS server inside an enclave, and the parent's proxy that leads to it. TLS ends
// in the enclave; who the client is, the parent only claims.
func ExampleNewProxyV2Listener() {
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// In an enclave and its parent: Vsock(AnyCID, 8443) and Vsock(16, 8443).
	endpoint := vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8443)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// In the enclave. A real one makes its key there, and its clients verify the
	// certificate by an attestation document.
	made := httptest.NewTLSServer(nil)
	certificate, client := made.TLS.Certificates[0], made.Client()
	made.Close()
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			_, _ = fmt.Fprintf(w, "hello, %s, says the parent", host)
		}),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	served := make(chan error, 2)
	go func() { served <- server.ServeTLS(vsockproxy.NewProxyV2Listener(listener), "", "") }()

	// On the parent.
	outside, err := vsockproxy.Listen(ctx, vsockproxy.TCP("127.0.0.1:0"))
	if err != nil {
		log.Fatal(err)
	}
	proxy := &vsockproxy.Proxy{Route: vsockproxy.ToEnclaveProxyV2(endpoint)}
	go func() { served <- proxy.Serve(ctx, outside) }()

	// A client, anywhere.
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, outside.Addr().String())
	}
	resp, err := client.Get("https://example.com/")
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Println(string(body), err)
	client.CloseIdleConnections()

	fmt.Println("server:", server.Shutdown(ctx), <-served)
	stop()
	fmt.Println("proxy:", <-served)
	// Output:
	// hello, 127.0.0.1, says the parent <nil>
	// server: <nil> http: Server closed
	// proxy: <nil>
}

// A program that connects to an address of its own machine reaches a server far away,
// through a forwarder in the enclave and the parent's proxy, and speaks TLS with it.
func ExampleToParent() {
	kms := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "this is KMS") }))
	defer kms.Close()
	target := kms.Listener.Addr().String()
	dir, err := os.MkdirTemp("", "proxy")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	endpoint := vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8000)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error, 2)

	// On the parent.
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	proxy := &vsockproxy.Proxy{Route: vsockproxy.Connect(), Allow: allow}
	go func() { served <- proxy.Serve(ctx, listener) }()

	// In the enclave: "127.0.0.1:443", and /etc/hosts leads the name there.
	loopback, err := vsockproxy.ListenLoopback(ctx, "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	dialer := vsockproxy.Dialer{Endpoint: endpoint, Connect: true}
	forwarder := &vsockproxy.Proxy{Route: vsockproxy.ToParent(dialer, target)}
	go func() { served <- forwarder.Serve(ctx, loopback) }()

	// A program that knows nothing of enclaves. (The dial stands for /etc/hosts.)
	client := kms.Client()
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, loopback.Addr().String())
	}
	resp, err := client.Get("https://example.com/")
	if err != nil {
		log.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Println(string(body), err)
	client.CloseIdleConnections()

	stop()
	fmt.Println(<-served, <-served)
	// Output:
	// this is KMS <nil>
	// <nil> <nil>
}
