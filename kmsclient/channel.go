package kmsclient

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
	// attemptTimeout bounds one attempt, from dialing to the last byte of the
	// answer, so that a parent that swallows bytes can't hold a call for ever.
	// KMS answers in milliseconds.
	attemptTimeout = 30 * time.Second
	// maxAnswerSize bounds an answer's body in bytes. The largest ones, lists
	// of 1000 entries, have some 300 KB.
	maxAnswerSize = 4 << 20
	// maxAnswerHeaderSize bounds an answer's header in bytes.
	maxAnswerHeaderSize = 64 << 10
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// newChannel returns the HTTP client whose TLS ends in KMS and nowhere else.
// What surrounds the process has no say: no proxy variables, no CA bundle or
// certificate files of the system's, no redirects. The host name that is
// verified is the endpoint's, as in any HTTP client.
func newChannel(dial dialFunc, rootCAs *x509.CertPool) *http.Client {
	transport := awshttp.NewBuildableClient().GetTransport() // with the SDK's limits and timeouts
	transport.Proxy = nil
	if dial == nil {
		dial = dialDirectly
	}
	// The transport goes on dialing when the request's context has ended, for the
	// next request. Without a bound, a dial function that has none of its own
	// would be left behind for ever, once per call.
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		return dial(ctx, network, address)
	}
	var roots *x509.CertPool
	if rootCAs != nil {
		roots = rootCAs.Clone() // what is added to it later doesn't count
	} else {
		roots = amazonRoots()
	}
	// The rest of the TLS configuration is the SDK's, which knows when FIPS 140
	// demands other curves.
	transport.TLSClientConfig.MinVersion = tls.VersionTLS12
	transport.TLSClientConfig.RootCAs = roots
	transport.MaxResponseHeaderBytes = maxAnswerHeaderSize
	// The SDK keeps ten of a hundred for each host. Here all are for one, and with
	// more callers than that most calls would begin with a TLS handshake.
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	return &http.Client{
		Transport:     boundedTransport{transport, attemptTimeout},
		CheckRedirect: noRedirect,
	}
}

// dialDirectly is for programs outside of an enclave. Inside it fails, and the
// likeliest reason is that the dial function was forgotten.
func dialDirectly(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dialed directly, since Dial isn't set, and an enclave has no network of its own: %w", err)
	}
	return conn, nil
}

// noRedirect stays where it is; the SDK's own client follows 307 and 308 to
// whatever host they name.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// boundedTransport bounds an attempt's time and its answer's body, and keeps
// connections that the SDK would lose. Its errors, and those of the body, are
// never the context errors of anybody but the caller.
type boundedTransport struct {
	*http.Transport
	timeout time.Duration // not http.Client's, whose error is context.DeadlineExceeded too
}

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	caller := r.Context()
	p := progressOf(caller)
	ctx, cancel := context.WithTimeoutCause(caller, t.timeout, errTooSlow{t.timeout})
	r = r.WithContext(httptrace.WithClientTrace(ctx, p.trace()))
	if r.Body != nil {
		// The SDK closes a request's body as soon as there is an answer. If the
		// transport then still looks whether the body has an end, as it does
		// after the last byte, the WriteTo of smithy-go's closed body says
		// io.EOF, which counts as a failed write and costs the connection, and
		// the next call a TLS handshake. Its Read says io.EOF too, where that
		// means the end: leave only Read.
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
			// Whatever ended this kept connection, such as a proxy that was
			// killed, may have ended the others that are kept, and not every
			// transport tells. The next attempt must not try them one by one.
			t.CloseIdleConnections()
		}
		return nil, finalIfCertificate(broken{tooSlow(ctx, err), true})
	}
	p.reach(receiving)
	response.Body = &answerBody{http.MaxBytesReader(nil, response.Body, maxAnswerSize), caller, ctx, cancel}
	return response, nil
}

// answerBody is an answer's body. Closed, it lets go of the attempt's timer.
type answerBody struct {
	io.ReadCloser
	caller, attempt context.Context
	cancel          context.CancelFunc
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil || err == io.EOF || errors.As(err, &tooLarge):
		return n, err
	case b.caller.Err() != nil:
		return n, b.caller.Err()
	}
	return n, broken{tooSlow(b.attempt, err), isFollowed(b.caller)}
}

func (b *answerBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// errTooSlow ends an attempt.
type errTooSlow struct{ after time.Duration }

func (e errTooSlow) Error() string { return fmt.Sprintf("no whole answer within %v", e.after) }

// Timeout is what the SDK's retryers ask for.
func (errTooSlow) Timeout() bool { return true }

// tooSlow returns err, or what is behind it if the attempt's time was over.
func tooSlow(attempt context.Context, err error) error {
	if cause, ok := context.Cause(attempt).(errTooSlow); ok {
		return cause
	}
	return err
}

// broken is an error of the channel that isn't the end of the caller's context.
// Those of dialers, sockets and the transport often claim to be: they pass for
// context.DeadlineExceeded whatever deadline it was. errors.As finds all that is
// beneath, errors.Is all but the errors of contexts.
//
// The SDK's retryers ask for ConnectionError. What breaks before the answer they
// try again by themselves. Where it is the answer's body, the operation has been
// carried out, and to do so again is harmless for those that change nothing in
// KMS: the attested ones.
type broken struct {
	err   error
	again bool
}

func (b broken) Error() string         { return b.err.Error() }
func (b broken) ConnectionError() bool { return b.again }
func (b broken) As(target any) bool    { return errors.As(b.err, target) }
func (b broken) Is(target error) bool {
	return target != context.DeadlineExceeded && target != context.Canceled && errors.Is(b.err, target)
}

// Timeout says whether it was too slow, for url.Error, which asks only the
// error that it wraps itself.
func (b broken) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(b.err, &timeout) && timeout.Timeout()
}
