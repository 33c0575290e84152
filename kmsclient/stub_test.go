package kmsclient

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/nsm"
)

const (
	keyA   = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	keyB   = "arn:aws:kms:eu-west-1:444455556666:key/mrk-0987dcba09fe87dc65ba43fe21dc0987"
	host   = "kms.eu-west-1.amazonaws.com"
	region = "eu-west-1"
)

// stub is a server with the wire of KMS and none of its honesty: what it
// answers is up to the test.
type stub struct {
	*httptest.Server
	roots *x509.CertPool
	// answer returns the status and the body of an answer.
	answer func(r stubRequest) (int, any)

	mutex    sync.Mutex
	requests []stubRequest
}

type stubRequest struct {
	op   string
	host string
	body map[string]any
}

// text returns a field of the request's body, "" if it isn't there.
func (r stubRequest) text(name string) string {
	s, _ := r.body[name].(string)
	return s
}

// document returns the attestation document in the request. That of the
// fakeAttester is the recipient's public key and a counter.
func (r stubRequest) document(t testing.TB) []byte {
	t.Helper()
	recipient, _ := r.body["Recipient"].(map[string]any)
	if recipient == nil {
		t.Errorf("%s has no Recipient", r.op)
		return nil
	}
	if got := recipient["KeyEncryptionAlgorithm"]; got != "RSAES_OAEP_SHA_256" {
		t.Errorf("KeyEncryptionAlgorithm %v", got)
	}
	encoded, _ := recipient["AttestationDocument"].(string)
	document, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Error(err)
	}
	return document
}

// seal encrypts a plaintext to the request's recipient.
func (r stubRequest) seal(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	document := r.document(t)
	if len(document) == 0 {
		return nil
	}
	return seal(t, document[:len(document)-1], plaintext)
}

// seal makes an envelope in the definite form.
func seal(t testing.TB, spki, plaintext []byte) []byte {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Error(err)
		return nil
	}
	cek, iv := make([]byte, 32), make([]byte, 16)
	rand.Read(cek)
	rand.Read(iv)
	encryptedKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), cek, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	pad := 16 - len(plaintext)%16
	ciphertext := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, err := aes.NewCipher(cek)
	if err != nil {
		t.Error(err)
		return nil
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(ciphertext, ciphertext)
	id := sha256.Sum256(spki)

	type algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue
	}
	type oaep struct {
		Hash algorithm `asn1:"explicit,tag:0"`
		MGF  algorithm `asn1:"explicit,tag:1"`
	}
	raw := func(v any) asn1.RawValue {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		return asn1.RawValue{FullBytes: der}
	}
	hash := algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, asn1.NullRawValue}
	type recipientInfo struct {
		Version      int
		KeyID        []byte `asn1:"tag:0"`
		Algorithm    algorithm
		EncryptedKey []byte
	}
	type contentInfo struct {
		Type      asn1.ObjectIdentifier
		Algorithm algorithm
		Content   []byte `asn1:"tag:0"`
	}
	type envelopedData struct {
		Version    int
		Recipients []recipientInfo `asn1:"set"`
		Content    contentInfo
	}
	type envelope struct {
		Type    asn1.ObjectIdentifier
		Content envelopedData `asn1:"explicit,tag:0"`
	}
	der, err := asn1.Marshal(envelope{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}, envelopedData{2,
		[]recipientInfo{{2, id[:], algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7},
			raw(oaep{hash, algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, raw(hash)}})}, encryptedKey}},
		contentInfo{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1},
			algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, raw(iv)}, ciphertext}}})
	if err != nil {
		t.Error(err)
	}
	return der
}

// object is a JSON object; byte slices in it become base64, as in KMS's.
type object = map[string]any

// fails is an error answer.
func fails(code string) (int, any) {
	return http.StatusBadRequest, object{"__type": code, "message": "no"}
}

func newStub(t testing.TB, answer func(r stubRequest) (int, any)) *stub {
	t.Helper()
	return newStubFor(t, []string{host}, answer)
}

// newStubFor makes a server with a certificate for the names.
func newStubFor(t testing.TB, names []string, answer func(r stubRequest) (int, any)) *stub {
	t.Helper()
	s := &stub{answer: answer}
	certificate, roots := newCertificate(t, names)
	s.roots = roots
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func newCertificate(t testing.TB, names []string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	make := func(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, parentKey = template, key
		}
		template.SerialNumber = big.NewInt(1)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		template.BasicConstraintsValid = true
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	root, rootKey := make(&x509.Certificate{Subject: pkix.Name{CommonName: "test root"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, leafKey := make(&x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, root, rootKey)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey}, pool
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := stubRequest{op: strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService."), host: r.Host}
	if err := json.NewDecoder(r.Body).Decode(&request.body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mutex.Lock()
	s.requests = append(s.requests, request)
	s.mutex.Unlock()
	status, body := s.answer(request)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// seen returns the requests so far.
func (s *stub) seen() []stubRequest {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]stubRequest(nil), s.requests...)
}

// dial goes to the server, whatever the address: as a vsock dialer does.
func (s *stub) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, s.Listener.Addr().String())
}

// fakeAttester makes documents that hold the key and a count.
type fakeAttester struct {
	mutex sync.Mutex
	count int
	edit  func(document []byte, err error) ([]byte, error)
}

func (f *fakeAttester) Attest(_ context.Context, r nsm.AttestationRequest) ([]byte, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.count++
	document := append(bytes.Clone(r.PublicKey), byte(f.count))
	clear(r.PublicKey) // a rude one
	if f.edit != nil {
		return f.edit(document, nil)
	}
	return document, nil
}

func (f *fakeAttester) calls() int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.count
}

func testConfig() aws.Config {
	return aws.Config{
		Region:           region,
		RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
	}
}

// newTestClient makes a client whose idle connections are closed at the end.
func newTestClient(t testing.TB, cfg aws.Config, attester Attester, opts Options, optFns ...func(*kms.Options)) *kms.Client {
	t.Helper()
	client, err := New(t.Context(), cfg, attester, opts, optFns...)
	if err != nil {
		t.Fatal(err)
	}
	closeIdle(t, client)
	return client
}

func closeIdle(t testing.TB, client *kms.Client) {
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
}

// client makes a client of the stub with keyA pinned.
func (s *stub) client(t testing.TB, edit ...func(*Options)) (*kms.Client, *fakeAttester) {
	t.Helper()
	attester := &fakeAttester{}
	opts := Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}
	for _, f := range edit {
		f(&opts)
	}
	return newTestClient(t, testConfig(), attester, opts), attester
}

func wantError(t testing.TB, err error, op string, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T), want *Error with reason %q", err, err, want)
	}
	if e.Reason != want || e.Op != op {
		t.Fatalf("op %q and reason %q, want %q and %q: %v", e.Op, e.Reason, op, want, err)
	}
	return e
}
