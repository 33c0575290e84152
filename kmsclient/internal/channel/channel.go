// Package channel makes the HTTP clients that kmsclient sends requests with. Their TLS
// ends in the endpoint's host, their time and memory are bounded, and their errors are
// told apart from the end of the caller's context.
package channel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	// AttemptTimeout bounds one attempt, from dialing to the last byte of the
	// response, so that a parent that swallows bytes does not hold a call for ever.
	// KMS responds in milliseconds.
	AttemptTimeout = 30 * time.Second
	// MaxResponseSize bounds the body of a response, in bytes. The largest of KMS's,
	// lists of 1000 entries, have about 300 KB.
	MaxResponseSize = 4 << 20
	// maxHeaderSize bounds the header of a response, in bytes.
	maxHeaderSize = 64 << 10
)

// Dial makes a connection.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// New returns an HTTP client that dials with dial and accepts only rootCAs. A nil dial
// dials TCP; nil rootCAs are those of Amazon. The client uses no proxy, CA bundle or
// certificate file of the environment, and follows no redirect.
func New(dial Dial, rootCAs *x509.CertPool) *http.Client {
	transport := awshttp.NewBuildableClient().GetTransport() // with the SDK's limits and timeouts
	transport.Proxy = nil
	if dial == nil {
		dial = dialDirectly
	}
	// The transport goes on dialing when the request's context has ended, for the
	// next request. Without a bound, a dial function that has none of its own would
	// be left behind for ever, once per call.
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, AttemptTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	// The rest of the TLS configuration is the SDK's, which knows when FIPS 140
	// demands other curves.
	transport.TLSClientConfig.MinVersion = tls.VersionTLS12
	transport.TLSClientConfig.RootCAs = roots(rootCAs)
	// The SDK keeps ten of a hundred idle connections for each host. Here all are for
	// one host, and with more callers than ten most calls would begin with a TLS
	// handshake.
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	return Client(transport)
}

// Client returns an HTTP client that has the package's bounds, follows no redirect and
// sends its requests with transport.
func Client(transport *http.Transport) *http.Client {
	transport.MaxResponseHeaderBytes = maxHeaderSize
	return &http.Client{Transport: Transport{transport, AttemptTimeout}, CheckRedirect: noRedirect}
}

// dialDirectly is for programs outside of an enclave. Inside one it fails, most likely
// because the dial function was forgotten.
func dialDirectly(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dialed directly, since Dial is not set, and an enclave has no network of its own: %w", err)
	}
	return conn, nil
}

// noRedirect returns the redirect itself. The SDK's client follows 307 and 308 to
// whatever host they name.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Transport bounds the time of an attempt and the body of its response, and keeps
// connections that the SDK would lose. Its errors, and those of the body, are context
// errors only if the caller's context has ended.
type Transport struct {
	*http.Transport
	Timeout time.Duration // not http.Client's, whose error is context.DeadlineExceeded too
}

// RoundTrip implements [http.RoundTripper].
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	caller := r.Context()
	p := progressOf(caller)
	ctx, cancel := context.WithTimeoutCause(caller, t.Timeout, TooSlow{t.Timeout})
	r = r.WithContext(httptrace.WithClientTrace(ctx, p.trace()))
	if r.Body != nil {
		// The SDK closes a request's body as soon as there is a response. The
		// transport may then still look for the body's end, as it does after the last
		// byte. The WriteTo of smithy-go's closed body returns io.EOF, which counts
		// as a failed write and costs the connection, and the next call a TLS
		// handshake. Its Read returns io.EOF too, where that means the end: leave
		// only Read.
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	response, err := t.Transport.RoundTrip(r)
	if err != nil {
		defer cancel()
		if caller.Err() != nil {
			return nil, caller.Err()
		}
		if p.reused.Load() {
			// What ended this kept connection, such as a proxy that was killed, may
			// have ended the other kept ones, and not every network tells. The next
			// attempt must not try them one by one.
			t.CloseIdleConnections()
		}
		return nil, finalIfCertificate(Broken{tooSlow(ctx, err), true})
	}
	p.reach(Receiving)
	response.Body = &responseBody{http.MaxBytesReader(nil, response.Body, MaxResponseSize), caller, ctx, cancel}
	return response, nil
}

// responseBody is the body of a response. Close releases the attempt's timer.
type responseBody struct {
	io.ReadCloser
	caller, attempt context.Context
	cancel          context.CancelFunc
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF || errors.As(err, &tooLarge):
		return n, err
	case b.caller.Err() != nil:
		return n, b.caller.Err()
	}
	return n, Broken{tooSlow(b.attempt, err), isFollowed(b.caller)}
}

func (b *responseBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}
