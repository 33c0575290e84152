package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "32 bytes that only KMS gives out"

// enclave is a service whose surroundings are stand-ins, over real sockets.
type enclave struct {
	service  *Service
	nitro    *nsmtest.NSM
	endpoint vsockproxy.Endpoint
	log      serviceLog
}

// serviceLog keeps what is logged, and tells when the service listens.
type serviceLog struct {
	mu      sync.Mutex
	text    strings.Builder
	serving chan struct{} // closed once it does
}

func (l *serviceLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.Contains(string(p), "msg=serving") {
		close(l.serving)
	}
	return l.text.Write(p)
}

func newEnclave(t *testing.T) *enclave {
	t.Helper()
	nitro, err := nsmtest.New(nsmtest.Options{Image: []byte("the image")})
	if err != nil {
		t.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: nitro.Root(), Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	key, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(
		kmstest.PCREquals(0, nitro.PCR(0)), kmstest.PCREquals(1, nitro.PCR(1)), kmstest.PCREquals(2, nitro.PCR(2)))})
	if err != nil {
		t.Fatal(err)
	}
	owner := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	sealed, err := owner.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "enclave") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	session := nsm.NewSession(nitro)
	t.Cleanup(func() { _ = session.Close() })
	e := &enclave{nitro: nitro, log: serviceLog{serving: make(chan struct{})}, endpoint: vsockproxy.HybridVsock(filepath.Join(dir, "v"), 5000)}
	e.service = &Service{
		Session: session, RootCAs: server.RootCAs(), Credentials: server.Config().Credentials,
		Logger: slog.New(slog.NewTextHandler(&e.log, nil)),
		Config: Config{
			Region: "eu-central-1", KeyARN: key, Sealed: sealed.CiphertextBlob,
			KMS: "tcp://" + server.Addr(), Metadata: "vsock://3:8002", Listen: e.endpoint.String(),
		},
	}
	return e
}

// start runs the service until the test ends.
func (e *enclave) start(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.service.Run(ctx) }()
	select {
	case <-e.log.serving:
	case err := <-ended:
		stop()
		t.Fatalf("Run: %v", err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if strings.Contains(e.log.text.String(), secret) {
			t.Error("the secret is in the log")
		}
	})
}

func (e *enclave) verifier(t *testing.T, image string) *attestation.Verifier {
	t.Helper()
	pcr0, pcr1, pcr2 := nsmtest.Measure([]byte(image))
	v, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{{Name: image, PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2}}},
		Roots:        []*x509.Certificate{e.nitro.Root()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (e *enclave) connect(t *testing.T, image string) (*http.Client, *attestation.Document, error) {
	t.Helper()
	return Connect(t.Context(), (&vsockproxy.Dialer{Endpoint: e.endpoint}).DialContext, e.verifier(t, image))
}

func TestService(t *testing.T) {
	e := newEnclave(t)
	e.start(t)
	client, document, err := e.connect(t, "the image")
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	if len(document.PublicKey) != 0 || !strings.HasPrefix(string(document.UserData), bindingLabel) {
		t.Errorf("public key %x, user data %q", document.PublicKey, document.UserData)
	}
	res, err := client.Post(URL+"/mac", "", strings.NewReader("a message"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("a message"))
	if err != nil || strings.TrimSpace(string(answer)) != hex.EncodeToString(h.Sum(nil)) {
		t.Errorf("%q, %v", answer, err)
	}
	res, err = client.Post(URL+"/mac", "", strings.NewReader(strings.Repeat("x", maxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long body: %s", res.Status)
	}

	var refused *attestation.Error
	if client, _, err := e.connect(t, "another image"); client != nil || !errors.As(err, &refused) || refused.Reason != attestation.ReasonMeasurement {
		t.Errorf("another image: %v, %v", client, err)
	}
}

// What a connection may keep in memory is one request's body. By HTTP/2 it would be
// that of some hundred requests at once, and connections have the bound, not requests.
func TestOneRequestAtATime(t *testing.T) {
	e := newEnclave(t)
	e.start(t)
	raw, err := (&vsockproxy.Dialer{Endpoint: e.endpoint}).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	defer conn.Close()
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("the service speaks %q", p)
	}
}

// Two enclaves of one image are two: a client of one must notice the other.
func TestAnotherKey(t *testing.T) {
	one, two := newEnclave(t), newEnclave(t)
	one.start(t)
	two.start(t)
	client, _, err := one.connect(t, "the image")
	if err != nil {
		t.Fatal(err)
	}
	client.CloseIdleConnections()
	if _, _, err := two.connect(t, "the image"); err != nil {
		t.Fatal(err)
	}
	client.Transport.(*http.Transport).DialContext = (&vsockproxy.Dialer{Endpoint: two.endpoint}).DialContext
	if res, err := client.Get(URL + "/attestation"); err == nil || !strings.Contains(err.Error(), "not the key") {
		t.Errorf("%v, %v", res, err)
	}
}

// A parent in the middle has a TLS key of its own, and a document of the real enclave.
// One is right only for the key and the nonce it was made for, and without public_key.
func TestInTheMiddle(t *testing.T) {
	e := newEnclave(t)
	certificate, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*nsm.AttestationRequest)
		want   attestation.Reason // empty: accepted
	}{
		"nothing":       {func(*nsm.AttestationRequest) {}, ""},
		"another key":   {func(r *nsm.AttestationRequest) { r.UserData = binding(other.Leaf) }, attestation.ReasonUserData},
		"another label": {func(r *nsm.AttestationRequest) { r.UserData = r.UserData[1:] }, attestation.ReasonUserData},
		"no user data":  {func(r *nsm.AttestationRequest) { r.UserData = nil }, attestation.ReasonUserData},
		"a replay":      {func(r *nsm.AttestationRequest) { r.Nonce = make([]byte, len(r.Nonce)) }, attestation.ReasonNonce},
		"no nonce":      {func(r *nsm.AttestationRequest) { r.Nonce = nil }, attestation.ReasonNonce},
		"a public key":  {func(r *nsm.AttestationRequest) { r.PublicKey = []byte("key") }, attestation.ReasonPublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				nonce, err := readNonce(r.URL.RawQuery)
				if err != nil {
					t.Error(err)
				}
				request := nsm.AttestationRequest{Nonce: nonce, UserData: binding(certificate.Leaf)}
				test.change(&request)
				document, err := e.service.Session.Attest(r.Context(), request)
				if err != nil {
					t.Error(err)
				}
				_, _ = w.Write(document)
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			server.StartTLS()
			defer server.Close()
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
			}
			client, document, err := Connect(t.Context(), dial, e.verifier(t, "the image"))
			if requests.Load() != 1 {
				t.Errorf("%d requests", requests.Load())
			}
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var refused *attestation.Error
			if client != nil || document != nil || !errors.As(err, &refused) || refused.Reason != test.want {
				t.Errorf("%v, %v, want %s", client, err, test.want)
			}
		})
	}
}

func TestNotReleased(t *testing.T) {
	e := newEnclave(t)
	other, err := nsmtest.New(nsmtest.Options{Image: []byte("another image")})
	if err != nil {
		t.Fatal(err)
	}
	e.service.Session = nsm.NewSession(other)
	err = e.service.Run(t.Context())
	var refused *kmsclient.Error
	if !errors.As(err, &refused) || strings.Contains(err.Error(), secret) {
		t.Errorf("%v", err)
	}
}

func TestReadNonce(t *testing.T) {
	good := strings.Repeat("ab", 16)
	for query, ok := range map[string]bool{
		"nonce=" + good:                     true,
		"nonce=" + strings.Repeat("ab", 64): true,
		"":                                  false,
		"nonce=":                            false,
		"nonce=" + good[2:]:                 false,
		"nonce=" + strings.Repeat("ab", 65): false,
		"nonce=" + good + "a":               false,
		"nonce=zz" + good:                   false,
		"nonce=" + good + "&nonce=" + good:  false,
		"nonce=" + good + "&public_key=00":  false,
		"nonce=" + good + "&user_data=00":   false,
		"public_key=" + good:                false,
		"nonce=" + good + ";x=1":            false,
	} {
		if nonce, err := readNonce(query); (err == nil) != ok || (nonce != nil) != ok {
			t.Errorf("%q: %x, %v", query, nonce, err)
		}
	}
}

func TestLimit(t *testing.T) {
	now := time.Unix(1, 0)
	l := newLimit()
	for range atOnce {
		if !l.enter(now) {
			t.Fatal("refused a first one")
		}
	}
	if l.enter(now) {
		t.Errorf("more than %d at once", atOnce)
	}
	l.leave()
	if !l.enter(now) {
		t.Error("refused after one has left")
	}
	for range atOnce {
		l.leave()
	}
	served := atOnce + 1
	for ; l.enter(now); served++ {
		l.leave()
	}
	if served != burst {
		t.Errorf("%d in no time, want %d", served, burst)
	}
	now = now.Add(3 * documentIn)
	for served = 0; l.enter(now); served++ {
		l.leave()
	}
	if served != 3 || len(l.slots) != 0 {
		t.Errorf("%d after the time for 3, %d slots taken", served, len(l.slots))
	}
}

// filled is a config.json in which nothing is left to replace.
const filled = `{
  "region": "eu-central-1",
  "key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
  "sealed": "AQIC",
  "kms": "vsock://3:8000",
  "metadata": "vsock://3:8002",
  "listen": "vsock://4294967295:5000"
}`

func TestReadConfig(t *testing.T) {
	c, err := ReadConfig(strings.NewReader(filled))
	if err != nil || c.Region != "eu-central-1" || len(c.Sealed) == 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, bad := range []string{
		"", "{}", filled + "x", strings.Replace(filled, "region", "Regions", 1),
		strings.Replace(filled, "vsock://3:8000", "3:8000", 1),
		strings.Replace(filled, "AQIC", "?", 1),
	} {
		if c, err := ReadConfig(strings.NewReader(bad)); err == nil || len(c.Sealed) != 0 {
			t.Errorf("took %q", bad)
		}
	}
}

// Whoever leaves a placeholder learns which, and where to get the value.
func TestPlaceholders(t *testing.T) {
	const keyARN, sealed = "key_arn is still the placeholder", "sealed is still the placeholder"
	withoutKey := strings.Replace(filled, "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", placeholderKeyARN, 1)
	withoutSealed := func(s string) string {
		return strings.Replace(s, "AQIC", base64.StdEncoding.EncodeToString([]byte(placeholderSealed)), 1)
	}
	for text, want := range map[string]map[string]bool{
		withoutSealed(withoutKey): {keyARN: true, sealed: true},
		withoutSealed(filled):     {keyARN: false, sealed: true},
		withoutKey:                {keyARN: true, sealed: false},
	} {
		wantPlaceholders(t, text, want)
	}

	// The file itself has them, until this folder is copied and they are replaced.
	file, err := os.ReadFile("../config.json")
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{
		keyARN: strings.Contains(string(file), "REPLACE-"),
		sealed: strings.Contains(string(file), base64.StdEncoding.EncodeToString([]byte("Replace "))[:10]),
	}
	if left[keyARN] || left[sealed] {
		wantPlaceholders(t, string(file), left)
	}
}

func wantPlaceholders(t *testing.T, text string, want map[string]bool) {
	t.Helper()
	c, err := ReadConfig(strings.NewReader(text))
	if err == nil || len(c.Sealed) != 0 {
		t.Errorf("took %q", text)
		return
	}
	for part, there := range want {
		if strings.Contains(err.Error(), part) != there {
			t.Errorf("the error of %q is %v", text, err)
		}
	}
}
