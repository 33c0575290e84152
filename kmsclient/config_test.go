package kmsclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// instance is a parent instance: a metadata service that insists on version 2,
// and a proxy to it.
type instance struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mutex     sync.Mutex
	paths     []string
	addresses []string
	region    string
	role      string
	answers   []aws.Credentials // one each time, the last one for ever
	version1  bool
	status    int // of all answers but the token, if not 0
}

const token = "a-session-token-of-imds"

func newInstance(t *testing.T) *instance {
	t.Helper()
	i := &instance{region: "eu-west-1", role: "parent-role", answers: []aws.Credentials{roleCredentials("first", time.Now().Add(6*time.Hour))}}
	server := httptest.NewServer(i)
	t.Cleanup(server.Close)
	target := server.Listener.Addr().String()
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.MkdirTemp("", "imds") // short: the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	endpoint := vsockproxy.Unix(filepath.Join(directory, "s"))
	listener, err := vsockproxy.Listen(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = (&vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow}).Serve(ctx, listener)
	}()
	t.Cleanup(func() {
		stop()
		_ = listener.Close()
		<-done
	})
	i.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		i.mutex.Lock()
		i.addresses = append(i.addresses, network+" "+address)
		i.mutex.Unlock()
		return (&vsockproxy.Dialer{Endpoint: endpoint}).DialContext(ctx, network, address)
	}
	return i
}

func roleCredentials(id string, expires time.Time) aws.Credentials {
	return aws.Credentials{AccessKeyID: "ASIA" + id, SecretAccessKey: "the-secret-" + id, SessionToken: "token-" + id, Expires: expires}
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.paths = append(i.paths, r.Method+" "+r.URL.Path)
	const ttl = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	switch {
	case r.Method == http.MethodPut && i.version1:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get(ttl) != "":
		w.Header().Set(ttl, r.Header.Get(ttl))
		_, _ = io.WriteString(w, token)
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
		w.WriteHeader(http.StatusUnauthorized)
	case i.status != 0:
		w.WriteHeader(i.status)
	case r.URL.Path == "/latest/dynamic/instance-identity/document":
		_ = json.NewEncoder(w).Encode(map[string]string{"region": i.region})
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/" && i.role != "":
		_, _ = io.WriteString(w, i.role)
	case r.URL.Path == "/latest/meta-data/iam/security-credentials/"+i.role && i.role != "":
		c := i.answers[0]
		if len(i.answers) > 1 {
			i.answers = i.answers[1:]
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"Code": "Success", "AccessKeyId": c.AccessKeyID, "SecretAccessKey": c.SecretAccessKey,
			"Token": c.SessionToken, "Expiration": c.Expires.UTC().Format(time.RFC3339)})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// hostileEnvironment empties what LoadConfig reads, and sets what it must not.
func hostileEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the environment led a request astray: %s %s", r.Method, r.URL)
	}))
	t.Cleanup(hostile.Close)
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_KMS", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, hostile.URL)
	}
	for _, name := range []string{"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_V1_DISABLED"} {
		t.Setenv(name, "true")
	}
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("[default]\nregion = us-east-1\naws_access_key_id = AKIAFILE\naws_secret_access_key = file\nendpoint_url = "+hostile.URL+"\n[profile p]\ncredential_process = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE"} {
		t.Setenv(name, file)
	}
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::444455556666:role/other")
}

func TestLoadConfigFromInstance(t *testing.T) {
	hostileEnvironment(t)
	i := newInstance(t)
	cfg, err := kmsclient.LoadConfig(t.Context(), kmsclient.ConfigOptions{DialIMDS: i.dial})
	if err != nil {
		t.Fatal(err)
	}
	fetched := len(i.paths)
	got, err := cfg.Credentials.Retrieve(t.Context())
	if err != nil || cfg.Region != "eu-west-1" || got.AccessKeyID != "ASIAfirst" || got.SecretAccessKey != "the-secret-first" || got.SessionToken != "token-first" {
		t.Errorf("region %q, key %q, error %v", cfg.Region, got.AccessKeyID, err)
	}
	if !got.CanExpire || time.Until(got.Expires) > time.Hour {
		t.Errorf("the credentials are kept until %v", got.Expires)
	}
	if len(i.paths) != fetched {
		t.Error("LoadConfig fetched no credentials, or they were dropped")
	}
	for _, address := range i.addresses {
		if address != "tcp 169.254.169.254" {
			t.Errorf("dialled %s", address)
		}
	}
}

// What is about to expire is fetched anew; if that fails, the error says why.
func TestInstanceCredentialsAreRenewed(t *testing.T) {
	hostileEnvironment(t)
	i := newInstance(t)
	i.answers = []aws.Credentials{roleCredentials("first", time.Now().Add(-time.Second)), roleCredentials("second", time.Now().Add(time.Hour))}
	cfg, err := kmsclient.LoadConfig(t.Context(), kmsclient.ConfigOptions{DialIMDS: i.dial})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := cfg.Credentials.Retrieve(t.Context()); err != nil || got.AccessKeyID != "ASIAsecond" {
			t.Errorf("key %q, error %v", got.AccessKeyID, err)
		}
	}
	cfg.Credentials.(*aws.CredentialsCache).Invalidate()
	i.mutex.Lock()
	i.role = ""
	i.mutex.Unlock()
	w := newWorld(t, kmstest.EnvelopeChunked)
	client, err := kmsclient.New(t.Context(), cfg, w.session, kmsclient.Options{UnsafeAnyKey: true, Dial: w.dial})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
	if reason(err) != kmsclient.ReasonInstanceMetadata || !strings.Contains(err.Error(), "attach an IAM role") {
		t.Errorf("error %v", err)
	}
}

// The whole way: the instance's role, and a client that works with it.
func TestLoadConfigForNew(t *testing.T) {
	hostileEnvironment(t)
	w := newWorld(t, kmstest.EnvelopeChunked)
	given, err := w.kms.Config().Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	given.Expires = time.Now().Add(time.Hour)
	i := newInstance(t)
	i.answers = []aws.Credentials{given}
	cfg, err := kmsclient.LoadConfig(t.Context(), kmsclient.ConfigOptions{DialIMDS: i.dial})
	if err != nil {
		t.Fatal(err)
	}
	client, err := kmsclient.New(t.Context(), cfg, w.session, kmsclient.Options{KeyIDs: []string{w.key}, Dial: w.dial, RootCAs: w.kms.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(w.key), KeySpec: types.DataKeySpecAes256})
	if err != nil || len(out.Plaintext) != 32 {
		t.Error(err)
	}
}

// Nothing is asked for without a session token, as in version 1.
func TestNoIMDSv1(t *testing.T) {
	hostileEnvironment(t)
	i := newInstance(t)
	i.version1 = true
	_, err := kmsclient.LoadConfig(t.Context(), kmsclient.ConfigOptions{Region: "eu-west-1", DialIMDS: i.dial})
	if reason(err) != kmsclient.ReasonInstanceMetadata {
		t.Errorf("error %v", err)
	}
	for _, path := range i.paths {
		if path != "PUT /latest/api/token" {
			t.Errorf("asked for %s", path)
		}
	}
}

func TestLoadConfigSources(t *testing.T) {
	static := credentials.NewStaticCredentialsProvider("AKIAOPTION", "option", "")
	environment := map[string]string{"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env", "AWS_SESSION_TOKEN": "token"}
	for _, test := range []struct {
		name           string
		env            map[string]string
		opts           kmsclient.ConfigOptions
		imds           bool
		region, keyID  string
		imdsIsNotAsked bool
	}{
		{"options before all", map[string]string{"AWS_REGION": "eu-west-2", "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env"},
			kmsclient.ConfigOptions{Region: "eu-west-3", Credentials: static}, true, "eu-west-3", "AKIAOPTION", true},
		{"environment before the instance", map[string]string{"AWS_REGION": "eu-west-2", "AWS_DEFAULT_REGION": "eu-west-3", "AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "env"},
			kmsclient.ConfigOptions{}, true, "eu-west-2", "AKIAENV", true},
		{"without an instance", environment, kmsclient.ConfigOptions{Region: "us-gov-west-1"}, false, "us-gov-west-1", "AKIAENV", true},
		{"default region", map[string]string{"AWS_DEFAULT_REGION": "ap-northeast-3"}, kmsclient.ConfigOptions{Credentials: static}, false, "ap-northeast-3", "AKIAOPTION", true},
		{"region of the instance", environment, kmsclient.ConfigOptions{}, true, "eu-west-1", "AKIAENV", false},
		{"credentials of the instance", map[string]string{"AWS_REGION": "eu-west-2"}, kmsclient.ConfigOptions{}, true, "eu-west-2", "ASIAfirst", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			hostileEnvironment(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			i := newInstance(t)
			if test.imds {
				test.opts.DialIMDS = i.dial
			}
			cfg, err := kmsclient.LoadConfig(t.Context(), test.opts)
			if err != nil {
				t.Fatal(err)
			}
			got, err := cfg.Credentials.Retrieve(t.Context())
			if err != nil || cfg.Region != test.region || got.AccessKeyID != test.keyID {
				t.Errorf("region %q, key %q, error %v", cfg.Region, got.AccessKeyID, err)
			}
			if test.imdsIsNotAsked && len(i.paths) != 0 {
				t.Errorf("the metadata service was asked: %v", i.paths)
			}
			if got.SessionToken != "" && got.AccessKeyID == "AKIAENV" && got.SessionToken != "token" {
				t.Error("another session token")
			}
		})
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	static := credentials.NewStaticCredentialsProvider("AKIAOPTION", "option", "")
	refused := func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("vsock: connection refused")
	}
	mute := func(ctx context.Context, _, _ string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		return ours, theirs.Close()
	}
	var kept []net.Conn
	silent := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		kept = append(kept, theirs)
		return ours, nil
	}
	for _, test := range []struct {
		name   string
		env    map[string]string
		opts   kmsclient.ConfigOptions
		imds   func(*instance) // with an instance, edited
		reason kmsclient.Reason
		detail string
	}{
		{"nothing", nil, kmsclient.ConfigOptions{}, nil, kmsclient.ReasonNoRegion, "ConfigOptions.Region"},
		{"no credentials", nil, kmsclient.ConfigOptions{Region: "eu-west-1"}, nil, kmsclient.ReasonNoCredentials, "ConfigOptions.Credentials"},
		{"no region", nil, kmsclient.ConfigOptions{Credentials: static}, nil, kmsclient.ReasonNoRegion, "AWS_REGION"},
		{"key ID without secret", map[string]string{"AWS_ACCESS_KEY_ID": "AKIAENV"}, kmsclient.ConfigOptions{Region: "eu-west-1"}, func(*instance) {}, kmsclient.ReasonNoCredentials, "some of"},
		{"session token alone", map[string]string{"AWS_SESSION_TOKEN": "t"}, kmsclient.ConfigOptions{Region: "eu-west-1"}, func(*instance) {}, kmsclient.ReasonNoCredentials, "some of"},
		{"no region's name", nil, kmsclient.ConfigOptions{Region: "evil.example/"}, nil, kmsclient.ReasonInvalidOptions, "ConfigOptions.Region"},
		{"no region's name in the environment", map[string]string{"AWS_REGION": "eu-west-1.evil.example#"}, kmsclient.ConfigOptions{}, nil, kmsclient.ReasonInvalidOptions, "AWS_REGION"},
		{"no region's name from the instance", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.region = "evil.example\n" }, kmsclient.ReasonInstanceMetadata, "region"},
		{"no region from the instance", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.region = "" }, kmsclient.ReasonInstanceMetadata, "region"},
		{"no proxy", nil, kmsclient.ConfigOptions{DialIMDS: refused}, nil, kmsclient.ReasonChannel, "parent runs a proxy"},
		{"no proxy for credentials", nil, kmsclient.ConfigOptions{Region: "eu-west-1", DialIMDS: refused}, nil, kmsclient.ReasonChannel, "parent runs a proxy"},
		{"a proxy to nowhere", nil, kmsclient.ConfigOptions{DialIMDS: mute}, nil, kmsclient.ReasonChannel, "169.254.169.254:80"},
		{"no answer", nil, kmsclient.ConfigOptions{DialIMDS: silent}, nil, kmsclient.ReasonChannel, "no response"},
		{"no role", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.role = "" }, kmsclient.ReasonInstanceMetadata, "IAM role"},
		{"switched off", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.status = http.StatusForbidden }, kmsclient.ReasonInstanceMetadata, "switched off"},
		{"something else", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.status = http.StatusTeapot }, kmsclient.ReasonInstanceMetadata, "forwards to"},
		{"credentials without secret", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.answers[0].SecretAccessKey = "" }, kmsclient.ReasonInstanceMetadata, "lack"},
		{"redirect", nil, kmsclient.ConfigOptions{}, func(i *instance) { i.status = http.StatusTemporaryRedirect }, kmsclient.ReasonInstanceMetadata, "forwards to"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hostileEnvironment(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			if test.imds != nil {
				i := newInstance(t)
				test.imds(i)
				test.opts.DialIMDS = i.dial
			}
			var cfg aws.Config
			var err error
			if load := func(t *testing.T) {
				cfg, err = kmsclient.LoadConfig(t.Context(), test.opts)
				for _, c := range kept {
					_ = c.Close()
				}
				kept = nil
			}; test.imds != nil {
				load(t)
			} else {
				synctest.Test(t, load) // without the SDK's pauses, since no socket is involved
			}
			var e *kmsclient.Error
			if !errors.As(err, &e) || e.Reason != test.reason || e.Op != "LoadConfig" || !strings.Contains(e.Error(), test.detail) {
				t.Errorf("error %v, want %q with %q", err, test.reason, test.detail)
			}
			if cfg.Credentials != nil || cfg.Region != "" || cfg.HTTPClient != nil {
				t.Error("a configuration beside an error")
			}
			if strings.Contains(fmt.Sprintf("%+v", err), "the-secret") {
				t.Errorf("a secret in %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kmsclient.LoadConfig(ctx, kmsclient.ConfigOptions{Region: "eu-west-1", Credentials: static}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A provider of the caller's is asked once as long as its credentials are valid.
func TestLoadConfigCaches(t *testing.T) {
	hostileEnvironment(t)
	asked := 0
	cfg, err := kmsclient.LoadConfig(t.Context(), kmsclient.ConfigOptions{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			asked++
			return aws.Credentials{AccessKeyID: "AKIAOPTION", SecretAccessKey: "option", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
		})})
	if err != nil || asked != 0 {
		t.Fatal(asked, err)
	}
	for range 3 {
		if _, err := cfg.Credentials.Retrieve(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("the provider was asked %d times", asked)
	}
}
