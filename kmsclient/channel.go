package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
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
	if dial != nil {
		transport.DialContext = dial
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
	return &http.Client{
		Transport:     boundedTransport{transport},
		Timeout:       attemptTimeout,
		CheckRedirect: noRedirect,
	}
}

// noRedirect stays where it is; the SDK's own client follows 307 and 308 to
// whatever host they name.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// boundedTransport bounds the bodies of answers, and keeps connections that
// the SDK would lose.
type boundedTransport struct{ *http.Transport }

func (t boundedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		// The SDK closes a request's body as soon as there is an answer. If the
		// transport then still looks whether the body has an end, as it does
		// after the last byte, the WriteTo of smithy-go's closed body says
		// io.EOF, which counts as a failed write and costs the connection, and
		// the next call a TLS handshake. Its Read says io.EOF too, where that
		// means the end: leave only Read.
		r = r.WithContext(r.Context())
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	response, err := t.Transport.RoundTrip(r)
	if err != nil {
		return nil, finalIfCertificate(err)
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxAnswerSize)
	return response, nil
}
