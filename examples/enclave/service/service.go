// Package service is a minimal enclave application, to copy and to extend. It gets its
// secret from KMS, which releases it to this image only, and serves HTTPS. Without the
// secret it does not serve. Its TLS key never leaves the enclave, and its attestation
// documents vouch for the key.
//
//	GET  /attestation?nonce=HEX   an attestation document
//	POST /mac                     HMAC-SHA256 of the body, with the released secret
//
// A client begins with [Connect], which verifies the enclave and then accepts no TLS key but
// the attested one.
package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/net/netutil"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// Service is the application.
type Service struct {
	Config  Config
	Session *nsm.Session
	Logger  *slog.Logger

	// RootCAs and Credentials are for tests: nil means Amazon's roots, and the
	// credentials of the parent instance's role.
	RootCAs     *x509.CertPool
	Credentials aws.CredentialsProvider
}

// Limits on clients.
const (
	maxBody       = 64 << 10
	maxHeader     = 8 << 10
	maxConns      = 256 // more wait in the kernel and at the parent
	requestLimit  = 10 * time.Second
	idleLimit     = time.Minute
	releaseLimit  = time.Minute
	shutdownLimit = 5 * time.Second
)

// Run gets the secret and serves until ctx ends. Its errors never contain the secret.
func (s *Service) Run(ctx context.Context) error {
	secret, err := s.release(ctx)
	if err != nil {
		return fmt.Errorf("no secret was released: %w", err)
	}
	s.Logger.Info("KMS has released the secret", "key", s.Config.KeyARN)

	certificate, err := newCertificate()
	if err != nil {
		return err
	}
	at, err := vsockproxy.ParseEndpoint(s.Config.Listen)
	if err != nil {
		return err
	}
	listener, err := vsockproxy.Listen(ctx, at)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /attestation", &attester{session: s.Session, userData: binding(certificate.Leaf), limit: newLimit(), logger: s.Logger})
	mux.HandleFunc("POST /mac", func(w http.ResponseWriter, r *http.Request) { mac(w, r, secret) })
	// HTTP/2 allows hundreds of requests on each connection, with as many bodies in the
	// enclave's small memory.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Protocols:         protocols,
		Handler:           http.MaxBytesHandler(mux, maxBody),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13},
		ReadHeaderTimeout: requestLimit, ReadTimeout: requestLimit, WriteTimeout: requestLimit,
		IdleTimeout: idleLimit, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
	}
	s.Logger.Info("serving", "at", at.String())
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(netutil.LimitListener(listener, maxConns), "", "") }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	err = server.Shutdown(ending)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-served
	return err
}

// release has KMS decrypt the secret for this image.
func (s *Service) release(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	kmsAt, err := vsockproxy.ParseEndpoint(s.Config.KMS)
	if err != nil {
		return nil, err
	}
	metadataAt, err := vsockproxy.ParseEndpoint(s.Config.Metadata)
	if err != nil {
		return nil, err
	}
	config, err := kmsclient.LoadConfig(ctx, kmsclient.ConfigOptions{
		Region:      s.Config.Region,
		Credentials: s.Credentials,
		DialIMDS:    (&vsockproxy.Dialer{Endpoint: metadataAt}).DialContext,
	})
	if err != nil {
		return nil, err
	}
	client, err := kmsclient.New(ctx, config, s.Session, kmsclient.Options{
		KeyIDs:  []string{s.Config.KeyARN},
		Dial:    (&vsockproxy.Dialer{Endpoint: kmsAt}).DialContext,
		RootCAs: s.RootCAs,
	})
	if err != nil {
		return nil, err
	}
	out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.Config.Sealed})
	if err != nil {
		return nil, err
	}
	return out.Plaintext, nil
}

// mac authenticates the body with the secret, which no client has.
func mac(w http.ResponseWriter, r *http.Request, secret []byte) {
	body, err := io.ReadAll(r.Body)
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		http.Error(w, fmt.Sprintf("more than %d bytes", tooLong.Limit), http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	h := hmac.New(sha256.New, secret)
	h.Write(body)
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, hex.EncodeToString(h.Sum(nil)))
}
