package kmsclient

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

func newSPKI(t testing.TB) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

var decryptInput = &kms.DecryptInput{CiphertextBlob: []byte("blob")}

// honest answers a Decrypt as KMS would.
func honest(t testing.TB) func(r stubRequest) (int, any) {
	return func(r stubRequest) (int, any) {
		return http.StatusOK, object{"KeyId": keyA, "CiphertextForRecipient": r.seal(t, []byte("plaintext"))}
	}
}

// The proxy of the environment is not asked, even where it would answer.
func TestNoProxy(t *testing.T) {
	asked := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- r.Method }))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	s := newStub(t, honest(t))
	client, _ := s.client(t)
	if _, err := client.Decrypt(t.Context(), decryptInput); err != nil {
		t.Error(err)
	}
	select {
	case m := <-asked:
		t.Errorf("the proxy got a %s", m)
	default:
	}
}

func TestOtherServers(t *testing.T) {
	_, otherRoots := newCertificate(t, []string{host})
	tests := []struct {
		name  string
		names []string
		edit  func(*Options)
	}{
		{"certificate of another host", []string{"example.com"}, func(*Options) {}},
		{"certificate of another region's KMS", []string{"kms.us-east-1.amazonaws.com"}, func(*Options) {}},
		{"root that isn't accepted", []string{host}, func(o *Options) { o.RootCAs = otherRoots }},
		{"root that isn't Amazon's", []string{host}, func(o *Options) { o.RootCAs = nil }},
		{"no roots", []string{host}, func(o *Options) { o.RootCAs = x509.NewCertPool() }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStubFor(t, test.names, honest(t))
			client, _ := s.client(t, test.edit)
			out, err := client.Decrypt(t.Context(), decryptInput)
			wantError(t, err, "Decrypt", ReasonChannel)
			if out != nil || len(s.seen()) != 0 {
				t.Errorf("output %v, %d requests", out, len(s.seen()))
			}
		})
	}
}

// TLS 1.1 and below are refused.
func TestOldTLS(t *testing.T) {
	s := newStub(t, honest(t))
	s.TLS.MaxVersion = tls.VersionTLS11
	s.TLS.MinVersion = tls.VersionTLS10
	client, _ := s.client(t)
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonChannel)
}

// The certificate is that of the connection that Dial made, for the host of
// the endpoint, and Dial is told that host.
func TestDial(t *testing.T) {
	s := newStub(t, honest(t))
	addresses := make(chan string, 10)
	client, _ := s.client(t, func(o *Options) {
		o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			addresses <- network + " " + address
			return s.dial(ctx, network, address)
		}
	})
	if _, err := client.Decrypt(t.Context(), decryptInput); err != nil {
		t.Fatal(err)
	}
	if got := <-addresses; got != "tcp "+host+":443" {
		t.Errorf("dialed %q", got)
	}
}

// No redirect is followed, to no host.
func TestRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		elsewhere := newStub(t, honest(t))
		redirecting := newStub(t, nil)
		redirecting.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/", status)
		})
		client, _ := redirecting.client(t)
		out, err := client.Decrypt(t.Context(), decryptInput)
		if err == nil || out != nil || len(elsewhere.seen()) != 0 {
			t.Errorf("%d: output %v, error %v, %d requests elsewhere", status, out, err, len(elsewhere.seen()))
		}
		wantError(t, err, "Decrypt", ReasonKMS)
	}
}

// Nothing goes to a host that is neither KMS's nor named, whatever the roots.
func TestEndpoints(t *testing.T) {
	kms1, other := newStub(t, honest(t)), newStubFor(t, []string{"kms.example.com"}, honest(t))
	own := []string{"KMS.example.com", "127.0.0.1", "::1"}
	for _, test := range []struct {
		endpoint string
		server   *stub
		roots    bool // the server's
		hosts    []string
		want     Reason // "" for success
	}{
		{"http://" + host, kms1, true, nil, ReasonEndpoint},
		{"http://" + host, kms1, false, nil, ReasonEndpoint},
		{"http://" + host, kms1, true, []string{host}, ReasonEndpoint},
		{"HTTP://" + host, kms1, true, nil, ReasonEndpoint},
		{"https://" + host, kms1, true, nil, ""},
		{"https://" + strings.ToUpper(host), kms1, true, nil, ""},
		{"https://" + host, kms1, true, own, ""},
		{"https://" + host, kms1, false, nil, ReasonChannel}, // not Amazon's root
		{"https://" + host, other, true, own, ReasonChannel}, // not for this host

		{"https://kms.example.com", other, false, nil, ReasonEndpoint},
		{"https://kms.example.com", other, true, nil, ReasonEndpoint},
		{"https://kms.example.com", other, true, []string{"example.com", "x.kms.example.com"}, ReasonEndpoint},
		{"https://kms.example.com", other, true, own, ""},
		{"https://KMS.EXAMPLE.COM:8443", other, true, own, ""},
		{"https://kms.example.com", other, false, own, ReasonChannel},
		{"https://a.kms.example.com", other, true, own, ReasonEndpoint},
		{"https://127.0.0.1:1", kms1, false, nil, ReasonEndpoint},
		{"https://127.0.0.1:1", kms1, true, nil, ReasonEndpoint},
		{"https://127.0.0.1:1", other, true, own, ""},
		{"https://[::1]:1", kms1, true, own, ReasonChannel},
		{"https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", kms1, false, nil, ReasonEndpoint},
		{"https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com", kms1, true, nil, ReasonEndpoint},
	} {
		opts := Options{KeyIDs: []string{keyA}, Dial: test.server.dial, Hosts: test.hosts}
		if test.roots {
			opts.RootCAs = test.server.roots
		}
		client := newTestClient(t, testConfig(), &fakeAttester{}, opts, func(o *kms.Options) { o.BaseEndpoint = aws.String(test.endpoint) })
		before := len(test.server.seen())
		_, err := client.Decrypt(t.Context(), decryptInput)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s, roots %v, hosts %q: %v", test.endpoint, test.roots, test.hosts, err)
			}
			continue
		}
		wantError(t, err, "Decrypt", test.want)
		_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyA), Plaintext: []byte("p")})
		if test.want == ReasonEndpoint {
			wantError(t, err, "Encrypt", test.want)
		}
		if sent := len(test.server.seen()) - before; err == nil || sent != 0 {
			t.Errorf("%s: Encrypt's error %v, %d requests", test.endpoint, err, sent)
		}
	}
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: kms1.dial, RootCAs: kms1.roots},
		func(o *kms.Options) { o.EndpointOptions.DisableHTTPS = true })
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonEndpoint)
}

func TestHosts(t *testing.T) {
	for _, host := range []string{
		"", "https://kms.example.com", "kms.example.com:443", "*.example.com", "*", "kms.example.com.", ".example.com", "kms..example.com",
		"kms.example.com/", "kms example.com", "[::1]", "-kms.example.com", "kms.example.com\n",
	} {
		client, err := New(t.Context(), testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Hosts: []string{"kms.example.com", host}})
		if e := wantError(t, err, "New", ReasonInvalidOptions); client != nil || e.Field != "Options.Hosts" {
			t.Errorf("%q: client %v, error %v", host, client, err)
		}
	}
}

// The options are the caller's to change after New, and nothing changes.
func TestOptionsAreCopied(t *testing.T) {
	s := newStubFor(t, []string{host, "kms.example.com"}, honest(t))
	opts := Options{KeyIDs: []string{keyA}, Hosts: []string{"kms.example.org"}, Dial: s.dial, RootCAs: x509.NewCertPool()}
	client := newTestClient(t, testConfig(), &fakeAttester{}, opts)
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonChannel)
	root, err := x509.ParseCertificate(s.TLS.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	opts.RootCAs.AddCert(root)
	opts.KeyIDs[0], opts.Hosts[0] = keyB, "kms.example.com"
	_, err = client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonChannel)
	_, err = client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("blob"), KeyId: aws.String(keyB)})
	wantError(t, err, "Decrypt", ReasonKeyNotPinned)
	_, err = client.Decrypt(t.Context(), decryptInput, func(o *kms.Options) { o.BaseEndpoint = aws.String("https://kms.example.com") })
	wantError(t, err, "Decrypt", ReasonEndpoint)
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestKMSHost(t *testing.T) {
	for _, host := range []string{
		"kms.us-east-1.amazonaws.com", "kms-fips.us-gov-west-1.amazonaws.com", "kms.eu-central-2.api.aws", "kms-fips.us-east-2.api.aws",
		"kms.cn-north-1.amazonaws.com.cn", "kms.cn-northwest-1.api.amazonwebservices.com.cn", "kms.eusc-de-east-1.amazonaws.eu",
		"kms.us-iso-east-1.c2s.ic.gov", "kms.us-isob-east-1.sc2s.sgov.gov", "kms.ap-southeast-5.amazonaws.com",
		"vpce-0123456789abcdef0-abcdefgh.kms.us-east-1.vpce.amazonaws.com",
		"vpce-0123456789abcdef0-abcdefgh-us-east-1a.kms-fips.us-east-1.vpce.amazonaws.com",
	} {
		if !kmsHost.MatchString(host) {
			t.Errorf("%s is refused", host)
		}
	}
	for _, host := range []string{
		"", "kms.amazonaws.com", "amazonaws.com", "kms.us-east-1.amazonaws.com.example.com", "kms.us-east-1xamazonaws.com",
		"kms.s3.amazonaws.com", "kms.s3-us-west-2.amazonaws.com", "a.kms.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com",
		"kms.us-east-1.elb.amazonaws.com", "abc.execute-api.us-east-1.amazonaws.com", "kms.us-east-1.amazonaws.com.", "kms.us-east-1.on.aws",
		"xkms.us-east-1.amazonaws.com", "kms.us-east-1.amazonaws.com\nx", "kms..amazonaws.com",
	} {
		if kmsHost.MatchString(host) {
			t.Errorf("%s is accepted", host)
		}
	}
}

// An answer without end doesn't fill the memory.
func TestAnswerSize(t *testing.T) {
	s := newStub(t, nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_, _ = w.Write([]byte(`{"KeyId":"`))
		block := make([]byte, 1<<16)
		for i := range block {
			block[i] = 'a'
		}
		for range 4 * channel.MaxResponseSize / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
		_, _ = w.Write([]byte(`"}`))
	})
	client, _ := s.client(t)
	out, err := client.Decrypt(t.Context(), decryptInput)
	var tooLarge *http.MaxBytesError
	if out != nil || !errors.As(err, &tooLarge) || tooLarge.Limit != channel.MaxResponseSize {
		t.Errorf("output %v, error %v", out != nil, err)
	}
}

// closedBody is a request's body as smithy-go leaves it once there is an
// answer: what there was to read has been read, and WriteTo fails.
type closedBody struct{ io.Reader }

func (closedBody) Close() error                     { return nil }
func (closedBody) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }

// A connection outlives the SDK's habit of closing bodies early: each new one
// would cost a TLS handshake over vsock.
func TestConnectionsAreKept(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) { return http.StatusOK, object{} })
	dials := 0
	client := channel.New(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials++
		return s.dial(ctx, network, address)
	}, s.roots)
	defer client.CloseIdleConnections()
	for range 5 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host, closedBody{strings.NewReader("{}")})
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = 2
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if dials != 1 {
		t.Errorf("%d connections for 5 requests in a row", dials)
	}
}

// As many connections are kept as were in use at once.
func TestConnectionsOfManyCallersAreKept(t *testing.T) {
	const callers = 30
	var arrived sync.WaitGroup
	s := newStub(t, func(stubRequest) (int, any) {
		arrived.Done()
		arrived.Wait() // so that each caller has a connection of its own
		return http.StatusOK, object{}
	})
	var dials atomic.Int64
	client := channel.New(func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return s.dial(ctx, network, address)
	}, s.roots)
	defer client.CloseIdleConnections()
	for range 3 {
		arrived.Add(callers)
		var calls sync.WaitGroup
		for range callers {
			calls.Go(func() {
				response, err := client.Post("https://"+host, "application/json", strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				if _, err := io.Copy(io.Discard, response.Body); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	if n := dials.Load(); n != callers {
		t.Errorf("%d connections for %d callers", n, callers)
	}
}
