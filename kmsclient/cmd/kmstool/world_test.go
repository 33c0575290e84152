package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/internal/programtest"
	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

const (
	testID     = "ASIATESTTESTTEST"
	testSecret = "sUperSecretOfTheTest/0123+4567/Zyxwvutsr"
	// Longer than what messages quote of a value, and as secret in part.
	testToken = "tOkenOfTheTest/" + tokenPart + "+1/" + tokenPart + "+2/" + tokenPart + "+3=="
	tokenPart = "QmFzZTY0IGlzIG5v/dCBlbmNyeXB0aW9u+SXQgb25seSBsb29rcyBs"
	plaintext = "attack at dawn"
)

// world is what one script has around it: NSMs, two KMSs, proxies and an
// instance metadata service, all under one root, and all real but AWS.
type world struct {
	env  *testscript.Env
	pki  *nsmtest.PKI
	sock string // a short folder, for the paths of sockets
}

func newWorld(env *testscript.Env) (err error) {
	programtest.QuickExit(env)
	w := &world{env: env}
	if w.sock, err = os.MkdirTemp("", "kt"); err != nil {
		return err
	}
	env.Defer(func() { _ = os.RemoveAll(w.sock) })
	if w.pki, err = nsmtest.NewPKI(nsmtest.PKIOptions{}); err != nil {
		return err
	}
	image := []byte("an enclave image")
	for name, options := range map[string]nsmtest.Options{
		"NSM": {Image: image}, "OTHER_NSM": {Image: []byte("another image")}, "DEBUG_NSM": {Image: image, Debug: true},
	} {
		if err := w.nsm(name, options); err != nil {
			return err
		}
	}
	pcr0, _, _ := nsmtest.Measure(image)
	var roots []byte
	for _, k := range []struct{ prefix, region string }{{"", "eu-west-1"}, {"US_", "us-east-1"}} {
		leaf, err := w.kms(k.prefix, k.region, kmstest.AllowAttested(kmstest.PCREquals(0, pcr0)))
		if err != nil {
			return err
		}
		roots = append(roots, leaf...)
	}
	env.Setenv("ROOTS", filepath.Join(env.WorkDir, "roots.pem"))
	env.Setenv("TEST_ROOTS", filepath.Join(env.WorkDir, "roots.pem"))
	env.Setenv("POOL", filepath.Join(env.WorkDir, "pool"))
	env.Setenv("ID", testID)
	env.Setenv("SECRET", testSecret)
	env.Setenv("TOKEN", testToken)
	env.Setenv("PLAINTEXT", base64.StdEncoding.EncodeToString([]byte(plaintext)))
	return errors.Join(
		os.WriteFile(filepath.Join(env.WorkDir, "roots.pem"), roots, 0o600),
		os.WriteFile(filepath.Join(env.WorkDir, "pool"), nil, 0o600),
		w.imds(),
		w.silent(),
	)
}

// kms starts a KMS with two keys and proxies to it, and returns its
// certificate, which is its own root as far as crypto/x509 is concerned.
func (w *world) kms(prefix, region string, policy *kmstest.Policy) ([]byte, error) {
	host := "kms." + region + ".amazonaws.com"
	server, err := kmstest.NewServer(kmstest.Options{
		AttestationRoot: w.pki.Root(), Region: region, HostNames: []string{host, "kms-fips." + region + ".amazonaws.com", "keys.example"},
		Credentials: aws.Credentials{AccessKeyID: testID, SecretAccessKey: testSecret, SessionToken: testToken},
	})
	if err != nil {
		return nil, err
	}
	w.env.Defer(server.Close)
	key, err := server.CreateKey(kmstest.KeyOptions{Policy: policy, Alias: "alias/orders"})
	if err != nil {
		return nil, err
	}
	other, err := server.CreateKey(kmstest.KeyOptions{Policy: policy, Alias: "alias/other"})
	if err != nil {
		return nil, err
	}
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	for name, in := range map[string]*kms.EncryptInput{
		"CIPHERTEXT":       {KeyId: &key, Plaintext: []byte(plaintext)},
		"BOUND_CIPHERTEXT": {KeyId: &key, Plaintext: []byte(plaintext), EncryptionContext: map[string]string{"tenant": "7", "purpose": "a=b, c"}},
	} {
		out, err := client.Encrypt(context.Background(), in)
		if err != nil {
			return nil, err
		}
		w.env.Setenv(prefix+name, base64.StdEncoding.EncodeToString(out.CiphertextBlob))
	}
	w.env.Setenv(prefix+"KEY", key)
	w.env.Setenv(prefix+"KEY_ID", key[len("arn:aws:kms:"+region+":111122223333:key/"):])
	w.env.Setenv(prefix+"OTHER_KEY", other)
	unix, hybrid := vsockproxy.Unix(w.path(prefix+"kms")), vsockproxy.HybridVsock(w.path(prefix+"hybrid"), 8000)
	w.env.Setenv(prefix+"PROXY", unix.String())
	w.env.Setenv(prefix+"HYBRID", hybrid.String())
	w.env.Setenv("NO_PROXY_THERE", vsockproxy.Unix(w.path("nothing")).String())
	if err := errors.Join(w.proxy(unix, server.Addr()), w.proxy(hybrid, server.Addr())); err != nil {
		return nil, err
	}
	conn, err := tls.Dial("tcp", server.Addr(), &tls.Config{RootCAs: server.RootCAs(), ServerName: host})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}), nil
}

func (w *world) path(name string) string { return filepath.Join(w.sock, name) }

// serve runs something until the script ends.
func (w *world) serve(run func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	w.env.Defer(func() { stop(); <-done })
}

func (w *world) proxy(at vsockproxy.Endpoint, target string) error {
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		return err
	}
	listener, err := vsockproxy.Listen(context.Background(), at)
	if err != nil {
		return err
	}
	w.serve(func(ctx context.Context) {
		_ = (&vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow}).Serve(ctx, listener)
	})
	return nil
}

// imds starts a metadata service, version 2, and a proxy to it.
func (w *world) imds() error {
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		const ttl, token, path = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "a-token-of-imds", "/latest/meta-data/iam/security-credentials/"
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			rw.Header().Set(ttl, r.Header.Get(ttl))
			_, _ = io.WriteString(rw, token)
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != token:
			rw.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == path:
			_, _ = io.WriteString(rw, "parent-role")
		case r.URL.Path == path+"parent-role":
			_ = json.NewEncoder(rw).Encode(map[string]string{"Code": "Success", "AccessKeyId": testID, "SecretAccessKey": testSecret,
				"Token": testToken, "Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
		default: // the region among them, which is not to be asked for
			rw.WriteHeader(http.StatusNotFound)
		}
	}))
	w.env.Defer(server.Close)
	at := vsockproxy.Unix(w.path("imds"))
	w.env.Setenv("IMDS", at.String())
	return w.proxy(at, server.Listener.Addr().String())
}

// silent listens, and never says anything: connections wait in the kernel.
func (w *world) silent() error {
	listener, err := net.Listen("unix", w.path("silent"))
	if err != nil {
		return err
	}
	w.env.Defer(func() { _ = listener.Close() })
	w.env.Setenv("SILENT", vsockproxy.Unix(w.path("silent")).String())
	return nil
}

// nsm lends a software NSM to the processes of the script, which have its
// device at a socket: a request or an answer is its length in four bytes, and
// its bytes.
func (w *world) nsm(name string, options nsmtest.Options) error {
	options.PKI = w.pki
	module, err := nsmtest.New(options)
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", w.path(name))
	if err != nil {
		return err
	}
	w.env.Setenv(name, w.path(name))
	w.serve(func(ctx context.Context) {
		context.AfterFunc(ctx, func() { _ = listener.Close() })
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for {
					request, err := readFrame(conn)
					if err != nil {
						return
					}
					response, err := module.Send(request)
					if err != nil || writeFrame(conn, response) != nil {
						return
					}
				}
			}()
		}
	})
	return nil
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// borrowed is the NSM at the other end of a connection.
type borrowed struct{ net.Conn }

func (d borrowed) Send(request []byte) ([]byte, error) {
	if err := writeFrame(d, request); err != nil {
		return nil, err
	}
	return readFrame(d)
}

// hanging is an NSM that never answers.
type hanging struct{}

func (hanging) Send([]byte) ([]byte, error) { select {} }
func (hanging) Close() error                { return nil }

// testMain is main with the surroundings that the script's environment names.
// It is in the test binary only.
func testMain() {
	rsakey.Generate = testkeys.Next
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, openNSM: openTestNSM, entropyPool: os.Getenv("POOL")}
	if name := os.Getenv("TEST_ROOTS"); name != "" {
		certificates, err := os.ReadFile(name)
		p.roots = x509.NewCertPool()
		if err != nil || !p.roots.AppendCertsFromPEM(certificates) {
			panic(fmt.Sprint("no roots: ", err))
		}
	}
	os.Exit(p.run(os.Args[1:]))
}

func openTestNSM() (*nsm.Session, error) {
	switch path := os.Getenv("NSM"); path {
	case "":
		return nsm.Open() // tests do not run inside an enclave
	case "hanging":
		return nsm.NewSession(hanging{}), nil
	default:
		conn, err := net.Dial("unix", path)
		if err != nil {
			return nil, err
		}
		return nsm.NewSession(borrowed{conn}), nil
	}
}
