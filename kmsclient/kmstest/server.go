package kmstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyvouch/keyvouch/attestation"
)

const (
	// MaxRequestBody is the longest request body the server reads, in bytes. A
	// request with the largest attestation document has some 350,000.
	MaxRequestBody = 1 << 20
	// MaxRecordedRequests is how many requests Requests remembers: the last.
	MaxRecordedRequests = 1024

	defaultRegion = "us-east-1"
	defaultRole   = "iam::111122223333:role/enclave"
	contentType   = "application/x-amz-json-1.1"
	targetPrefix  = "TrentService." // KMS's name in its protocol
	maxHeader     = 64 << 10
)

// Options configures a [Server]. The zero value is a server in us-east-1 that
// makes up its credentials and refuses every request with a Recipient.
type Options struct {
	// AttestationRoot is the root certificate that attestation documents must
	// lead to, such as the Root of an nsmtest.NSM. If nil, every request with
	// a Recipient is refused; there is no way to accept any document.
	AttestationRoot *x509.Certificate
	// Region is the region of the keys and of signatures, us-east-1 if empty.
	Region string
	// HostNames are the DNS names of the server's certificate, besides
	// 127.0.0.1 and localhost; the first is the one in Config. If nil, it is
	// KMS's name in the region, kms.<region>.amazonaws.com.
	HostNames []string
	// Credentials are the ones requests must be signed with, with a session
	// token if it is set and until Expires if CanExpire is. If zero, a key pair
	// is made up; Config carries it.
	Credentials aws.Credentials
	// RoleARN is the IAM role behind the credentials, for key policies that
	// name it; arn:aws:iam::111122223333:role/enclave (in the region's
	// partition) if empty. Its account and partition are those of the keys.
	RoleARN string
	// WithoutIAMPermissions says that the role has no IAM policy for KMS, so
	// that a key policy's statement for the account grants it nothing. If
	// false, such a statement allows everything it names, and so does the
	// default key policy: test with true a policy that has both a statement for
	// the account and one for the attested role.
	WithoutIAMPermissions bool
	// EnvelopeForm is the encoding of CiphertextForRecipient's content.
	EnvelopeForm EnvelopeForm
	// Clock is the server's time, for signatures, attestation documents, the
	// Date header and creation dates. If nil, time.Now. It is called from many
	// goroutines.
	Clock func() time.Time
}

// Server is a stand-in for AWS KMS on a port of 127.0.0.1. It is safe for
// concurrent use.
type Server struct {
	region       string
	hostName     string
	credentials  aws.Credentials
	caller       caller
	envelopeForm EnvelopeForm
	clock        func() time.Time
	verifier     *attestation.Verifier // nil: no root, no recipients

	listener    net.Listener
	roots       *x509.CertPool
	http        *http.Server
	client      *http.Client
	serving     sync.WaitGroup // the accept loop
	connections sync.WaitGroup
	close       sync.Once

	mu       sync.Mutex
	keys     map[string]*key // by ID
	aliases  map[string]*key
	requests []Request
}

var (
	hostNameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,16}$`)
	regionForm   = regexp.MustCompile(`^[a-z]{2}(-[a-z]{1,12}){1,3}-[0-9]{1,2}$`)
)

var (
	errBodyTooLong     = errors.New("request body too long")
	errEnvelopeTooLong = errors.New("CiphertextForRecipient too long")
)

// NewServer starts a server. Close it when done. The error is an *[Error].
func NewServer(options Options) (*Server, error) {
	s, err := newServer(options)
	if err != nil {
		return nil, err
	}
	hostNames := options.HostNames
	if len(hostNames) == 0 {
		hostNames = []string{kmsHostName(s.region)}
	}
	for _, name := range hostNames {
		if !hostNameForm.MatchString(name) {
			return nil, optionError("HostNames has %.100q, which is not a host name in lower case", name)
		}
	}
	s.hostName = hostNames[0]
	certificate, authority, err := newCertificate(hostNames)
	if err != nil {
		return nil, &Error{Reason: InvalidOption, Detail: "making the server certificate", Err: err}
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(authority)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, &Error{Reason: ListenFailed, Detail: "listening on 127.0.0.1", Err: err}
	}
	s.client = s.newClient()
	s.serve(certificate)
	return s, nil
}

// newServer makes the server without its network side.
func newServer(options Options) (*Server, error) {
	s := &Server{
		region:       options.Region,
		credentials:  options.Credentials,
		envelopeForm: options.EnvelopeForm,
		clock:        options.Clock,
		keys:         map[string]*key{},
		aliases:      map[string]*key{},
	}
	if s.region == "" {
		s.region = defaultRegion
	}
	if !regionForm.MatchString(s.region) {
		return nil, optionError("Region %.100q is not a region, such as eu-central-1", s.region)
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.envelopeForm != EnvelopeChunked && s.envelopeForm != EnvelopePrimitive {
		return nil, optionError("EnvelopeForm %d is neither EnvelopeChunked nor EnvelopePrimitive", s.envelopeForm)
	}
	if s.credentials == (aws.Credentials{}) {
		s.credentials = madeUpCredentials()
	}
	if s.credentials.AccessKeyID == "" || s.credentials.SecretAccessKey == "" {
		return nil, optionError("Credentials has no access key ID or no secret access key")
	}
	role := options.RoleARN
	if role == "" {
		role = "arn:" + partition(s.region) + ":" + defaultRole
	}
	var err error
	if s.caller, err = newCaller(role, options.WithoutIAMPermissions); err != nil {
		return nil, err
	}
	if options.AttestationRoot != nil {
		if s.verifier, err = newRecipientVerifier(options.AttestationRoot, s.clock); err != nil {
			return nil, &Error{Reason: InvalidOption, Detail: "AttestationRoot", Err: err}
		}
	}
	return s, nil
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func kmsHostName(region string) string {
	name := "kms." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		name += ".cn"
	}
	return name
}

func (s *Server) serve(certificate tls.Certificate) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // as KMS's endpoints
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute, // an RSA_4096 key pair takes seconds
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.connections.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.connections.Done()
			}
		},
	}
	s.serving.Go(func() {
		_ = s.http.ServeTLS(s.listener, "", "") // ends with Close
	})
}

// Close stops the server, cuts its connections, and returns when the last
// request handler has. It also closes the idle connections of [Server.Client].
// It may be called twice.
func (s *Server) Close() {
	s.close.Do(func() {
		s.client.CloseIdleConnections()
		_ = s.http.Close()
		s.serving.Wait()
		// A connection accepted during the first Close is not yet known to it.
		_ = s.http.Close()
		s.connections.Wait()
	})
}

// Addr is the host and port the server listens on, such as 127.0.0.1:41234: the
// address for a dial function, a proxy's target or a tunnel.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is the server's address as a URL, https://127.0.0.1:41234, for a client
// that is to dial it as any other server. The certificate is valid for it.
func (s *Server) URL() string { return "https://" + s.Addr() }

// RootCAs holds the certificate authority of the server's certificate, which no
// other server has. The pool is a copy.
func (s *Server) RootCAs() *x509.CertPool { return s.roots.Clone() }

// Config is the configuration of a client: the region, the credentials, and
// KMS's real host name (the first of Options.HostNames) as the base endpoint.
//
// It fits a client that verifies that name and trusts RootCAs, but dials Addr,
// itself or through a proxy. For a client without a dial function of its own,
// set the client's HTTPClient to [Server.Client], or its BaseEndpoint to
// [Server.URL] and trust RootCAs.
func (s *Server) Config() aws.Config {
	credentials := s.credentials
	return aws.Config{
		Region:       s.region,
		BaseEndpoint: aws.String("https://" + s.hostName),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return credentials, nil
		}),
	}
}

// Client is an HTTP client that trusts RootCAs and dials Addr whatever the
// address, so that requests for KMS's host name reach this server and nothing
// reaches AWS.
func (s *Server) Client() *http.Client { return s.client }

func (s *Server) newClient() *http.Client {
	var dialer net.Dialer
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.RootCAs(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", s.Addr())
		},
	}}
}

// answer handles one HTTP request.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	now := s.clock()
	c := &call{server: s}
	result, failure := c.run(w, r, now)
	status := http.StatusOK
	var body any = result
	if failure != nil {
		status, body = failure.httpStatus(), failure.body()
	}
	encoded, err := json.Marshal(body)
	if err != nil { // unreachable: answers are maps of plain values
		failure = internalError("encoding the answer", err)
		status, encoded = failure.httpStatus(), []byte(`{"__type":"`+codeInternal+`"}`)
	}
	requestID := newUUID()
	s.record(c, requestID, failure)
	header := w.Header()
	header.Set("X-Amzn-Requestid", requestID)
	header.Set("Content-Type", contentType)
	// The SDK corrects its clock by this header, so it must be this clock's.
	header.Set("Date", now.UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // the client has gone: nobody to tell
}

// run takes a request through KMS's stages: is it one for this service, is it
// signed, is it well-formed; then the operation.
func (c *call) run(w http.ResponseWriter, r *http.Request, now time.Time) (map[string]any, *apiError) {
	unknown := &apiError{code: codeUnknownOperation}
	if r.Method != http.MethodPost || r.URL.EscapedPath() != "/" || r.URL.RawQuery != "" {
		unknown.status = http.StatusNotFound
		return nil, unknown
	}
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	operation, known := operations[name]
	if !ok || !known {
		return nil, unknown
	}
	c.operation = name
	body, err := readBody(w, r)
	if errors.Is(err, errBodyTooLong) {
		return nil, &apiError{code: codeTooLarge, status: http.StatusRequestEntityTooLarge}
	}
	if err != nil {
		return nil, newAPIError(codeSerialization, "The request body could not be read.")
	}
	if failure := c.server.authenticate(r, body, now); failure != nil {
		return nil, failure
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != contentType {
		return nil, newAPIError(codeSerialization, "Content-Type must be %s.", contentType)
	}
	if c.input, err = parseObject(body); err != nil {
		return nil, newAPIError(codeSerialization, "The request body is not valid JSON: %v.", err)
	}
	return operation(c)
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxRequestBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return nil, errBodyTooLong
	}
	return body, err
}

// Request is what the server remembers of a request, for a test to look at. It
// holds no plaintext, credential or document.
type Request struct {
	// Operation is the operation's name, such as Decrypt; empty if the server
	// knows no such operation.
	Operation string
	// KeyID is the KeyId parameter as the client sent it, empty if it sent
	// none or the request was refused before it was read.
	KeyID string
	// Recipient says that the request had the Recipient parameter.
	Recipient bool
	// ErrorCode is the error the server answered with, such as
	// AccessDeniedException; empty if the request succeeded.
	ErrorCode string
	// Detail says more of the error than KMS tells a client, such as which
	// statement of a key policy failed on which PCR.
	Detail string
	// RequestID is the answer's x-amzn-RequestId.
	RequestID string
}

// Requests returns the requests answered so far, the oldest first, at most the
// last MaxRecordedRequests.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) record(c *call, requestID string, failure *apiError) {
	request := Request{Operation: c.operation, RequestID: requestID}
	if id, ok := c.input["KeyId"].(string); ok {
		request.KeyID = shorten(id)
	}
	request.Recipient = c.input["Recipient"] != nil
	if failure != nil {
		request.ErrorCode, request.Detail = failure.code, failure.detail
		if request.Detail == "" {
			request.Detail = failure.message
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == MaxRecordedRequests {
		s.requests = slices.Delete(s.requests, 0, 1)
	}
	s.requests = append(s.requests, request)
}

// shorten bounds what a message or a record repeats of a request.
func shorten(text string) string {
	const limit = 2048 // KeyId's in the service model
	if len(text) > limit {
		return text[:limit]
	}
	return text
}
