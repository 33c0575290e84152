package vsockproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

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
	proxy := &vsockproxy.Proxy{Target: target, Allow: allow}
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
	// asked for s3.eu-west-1.amazonaws.com:443, the proxy answered 403 "not-allowed: the target s3.eu-west-1.amazonaws.com:443 is not on the allowlist; list it, or correct it"
	// proxy ended: <nil>
}

func ExampleParseEndpoint() {
	e, err := vsockproxy.ParseEndpoint("vsock://3:8000")
	fmt.Println(e == vsockproxy.Vsock(vsockproxy.ParentCID, 8000), err)

	_, err = vsockproxy.ParseEndpoint("vsock://parent:8000")
	fmt.Println(err)
	// Output:
	// true <nil>
	// vsockproxy: parse: bad-endpoint: "vsock://parent:8000": context ID "parent" is not a decimal number between 0 and 4294967295; accepted forms: vsock://3:8000  hybrid:///run/v.sock?port=8000  unix:///run/p.sock  tcp://127.0.0.1:8000
}

func ExampleParseAllowlist() {
	_, err := vsockproxy.ParseAllowlist("kms.eu-west-1.amazonaws.com:443", "*.amazonaws.com:443")
	fmt.Println(err)
	// Output:
	// vsockproxy: parse: bad-allowlist: entry 2 of the allowlist: "*.amazonaws.com:443": wildcards are not supported; list each name
}
