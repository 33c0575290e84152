package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// URL is the base of a service's URLs, for the client that [Connect] returns. Its host is
// only a name: the document decides which enclave may answer.
const URL = "https://enclave"

// clientLimit bounds each request of a client.
const clientLimit = 30 * time.Second

// Connect verifies the enclave that dial reaches and returns a client for it. The client
// accepts only the TLS key that the enclave's document vouches for. The parent, which
// carries the connections, can cut them; it can neither read nor answer.
//
// The document is judged once, here. Call Connect again when the policy changes, and after
// the enclave has restarted: it then has another TLS key, which the client refuses.
func Connect(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), verifier *attestation.Verifier) (*http.Client, *attestation.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	// TLS proves only that the peer holds the key of its certificate. The document says
	// whose key that is.
	var peer *x509.Certificate
	first := &http.Client{CheckRedirect: noRedirect, Transport: transport(dial, func(certificate *x509.Certificate) error {
		if peer != nil && !bytes.Equal(peer.Raw, certificate.Raw) {
			return errors.New("another enclave answers")
		}
		peer = certificate
		return nil
	})}
	defer first.CloseIdleConnections()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, URL+"/attestation?nonce="+hex.EncodeToString(nonce), nil)
	if err != nil {
		return nil, nil, err
	}
	res, err := first.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, attestation.MaxDocumentSize+1))
	if err != nil {
		return nil, nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("the service gives no document: %s", res.Status)
	}
	want := binding(peer)
	document, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce, UserData: want, PublicKey: []byte{}})
	if err != nil {
		return nil, nil, err
	}
	client := &http.Client{Timeout: clientLimit, CheckRedirect: noRedirect, Transport: transport(dial, func(certificate *x509.Certificate) error {
		if !bytes.Equal(binding(certificate), want) {
			return errors.New("this is not the key that the enclave's document vouches for")
		}
		return nil
	})}
	return client, document, nil
}

// noRedirect stops a client from following redirects. The service sends none, and one could
// lead out of TLS.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transport returns a transport over dial. accept judges each connection's certificate.
func transport(dial func(ctx context.Context, network, address string) (net.Conn, error), accept func(*x509.Certificate) error) *http.Transport {
	return &http.Transport{
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// No authority vouches for an enclave's certificate. VerifyConnection, which
			// runs on every handshake, decides instead.
			InsecureSkipVerify: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				return accept(state.PeerCertificates[0])
			},
		},
		MaxIdleConns: 4, IdleConnTimeout: idleLimit,
	}
}
