package service

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

// A document speaks for this image. Whoever chooses its content speaks in the image's
// name. If the service had a caller's public key signed, KMS would release the secret to
// that key, given credentials of the parent's role. So a caller chooses the nonce and
// nothing else. public_key is always empty. user_data always names this service's TLS key,
// under a label that has no other use.

// bindingLabel begins the user data of this service's documents. Choose another for your
// service.
const bindingLabel = "keyvouch example enclave, TLS key, SHA-256: "

// binding is the user data that vouches for a certificate's key.
func binding(certificate *x509.Certificate) []byte {
	digest := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return append([]byte(bindingLabel), digest[:]...)
}

// Limits of nonces, in bytes, and of documents.
const (
	minNonce = 16
	maxNonce = 64

	atOnce     = 4                      // documents in progress
	documentIn = 100 * time.Millisecond // one document's share of the NSM's time
	burst      = 20                     // documents ahead of their share
)

// attester answers GET /attestation?nonce=HEX with a document.
type attester struct {
	session  *nsm.Session
	userData []byte
	limit    *limit
	logger   *slog.Logger
}

func (a *attester) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nonce, err := readNonce(r.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// The NSM makes one document at a time for the whole enclave. A flood of requests
	// must not delay the key release.
	if !a.limit.enter(time.Now()) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests for documents", http.StatusTooManyRequests)
		return
	}
	defer a.limit.leave()
	ctx, cancel := context.WithTimeout(r.Context(), requestLimit)
	defer cancel()
	document, err := a.session.Attest(ctx, nsm.AttestationRequest{Nonce: nonce, UserData: a.userData})
	if err != nil {
		a.logger.Error("no document", "error", err)
		http.Error(w, "the NSM gives no document", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(document)
}

// readNonce reads the query nonce=HEX. It refuses anything beside the nonce, so that a
// caller who wants more signed gets an error.
func readNonce(query string) ([]byte, error) {
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 1 || len(values["nonce"]) != 1 {
		return nil, errors.New("want one nonce, in hexadecimal, and nothing else: /attestation?nonce=…")
	}
	nonce, err := hex.DecodeString(values.Get("nonce"))
	if err != nil || len(nonce) < minNonce || len(nonce) > maxNonce {
		return nil, errors.New("the nonce is not 16 to 64 bytes in hexadecimal")
	}
	return nonce, nil
}

// limit bounds the documents in progress and their rate.
type limit struct {
	slots chan struct{}

	mu   sync.Mutex
	free time.Time // when the shares of all documents so far end
}

func newLimit() *limit { return &limit{slots: make(chan struct{}, atOnce)} }

// enter reports whether another document may be made now. If so, call leave afterwards.
func (l *limit) enter(now time.Time) bool {
	select {
	case l.slots <- struct{}{}:
	default:
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	if l.free.Sub(now) >= burst*documentIn {
		<-l.slots
		return false
	}
	l.free = l.free.Add(documentIn)
	return true
}

func (l *limit) leave() { <-l.slots }

// newCertificate makes the service's TLS key with a self-signed certificate. The
// attestation document vouches for the key.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "attested enclave"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
