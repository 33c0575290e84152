package vsockproxy_test

import (
	"context"
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
