package kmstest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest/internal/sigv4"
)

// Server is a stand-in for AWS KMS on a port of 127.0.0.1. It is safe for
// concurrent use.
type Server struct {
	region       string
	hostName     string
	signatures   sigv4.Verifier
	caller       caller
	envelopeForm EnvelopeForm
	clock        func() time.Time
	verifiers    map[attestation.Platform]*attestation.Verifier // nil: no root, no recipients

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
	faults   []Fault // in the order injected, none used up
}

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
			return nil, optionError("NewServer", "HostNames", "%.100q is not a host name in lower case", name)
		}
	}
	s.hostName = hostNames[0]
	certificate, authority, err := newCertificate(hostNames)
	if err != nil {
		return nil, &Error{Op: "NewServer", Reason: ReasonInvalidOptions, Detail: "making the server certificate", Err: err}
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(authority)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, &Error{Op: "NewServer", Reason: ReasonListen, Field: "127.0.0.1", Err: err}
	}
	s.client = s.newClient()
	s.serve(certificate)
	return s, nil
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
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeader,
		// Clients that refuse the certificate are what tests are about; the
		// default would write each to the process's stderr.
		ErrorLog: log.New(io.Discard, "", 0),
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
// that is to dial it as any other server. The certificate is valid for it. (A
// kmsclient takes it if its Options.Hosts has 127.0.0.1; better give that
// client Config and a dial function.)
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
	credentials := s.signatures.Credentials
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
