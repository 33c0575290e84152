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

// URL begins the URLs of a service for the client that Connect returns. The host in
// it is only a name: which enclave answers is decided by its document.
const URL = "https://enclave"

// clientLimit bounds each request of a client.
const clientLimit = 30 * time.Second

// Connect asks the service that dial leads to for a document, has verifier judge
// it, and returns a client that talks only to who holds the TLS key that the
// document vouches for. The parent that carries the connections can cut them, and
// neither read nor answer.
//
// The document is judged once, here: when the policy changes, call Connect again. An
// enclave that has been started anew has another TLS key, and the client refuses it.
func Connect(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), verifier *attestation.Verifier) (*http.Client, *attestation.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	// TLS proves that the peer holds the key of its certificate, and no more:
	// whose key that is, its document will say.
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

// noRedirect has a client hand out redirects, and not follow them: the service sends
// none, and one could lead out of TLS.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// transport makes TLS connections by dial whose certificate accept judges.
func transport(dial func(ctx context.Context, network, address string) (net.Conn, error), accept func(*x509.Certificate) error) *http.Transport {
	return &http.Transport{
		DialContext: dial,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// No authority vouches for an enclave's certificate. VerifyConnection
			// runs on every handshake, and decides in its place.
			InsecureSkipVerify: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				return accept(state.PeerCertificates[0])
			},
		},
		MaxIdleConns: 4, IdleConnTimeout: idleLimit,
	}
}
