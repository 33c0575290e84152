package kmsclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// rig is a whole way from an enclave to KMS, with places to break it:
//
//	client ── NSM
//	  └─ Dialer ──hybrid vsock── Proxy ──TCP── cutter ──TCP── KMS
type rig struct {
	*world
	cutter    *cutter
	device    *nsmtest.NSM
	documents *documents
	client    *kms.Client
	endpoint  vsockproxy.Endpoint
	kill      func() // ends the proxy, if it runs, and cuts its connections
	// arrival, if there is one, is called when a request has arrived at KMS.
	arrival atomic.Pointer[func()]
}

// readClock is KMS's clock, which it reads for each request.
func (r *rig) readClock() time.Time {
	if arrival := r.arrival.Swap(nil); arrival != nil {
		(*arrival)()
	}
	return time.Now()
}

// documents are what the NSM made.
type documents struct {
	mutex sync.Mutex
	count int
	keys  map[string]int // the recipient's keys in them
	// seen, if set, is called for each, with how many documents and how many
	// keys there are, in that order.
	seen func(count, keys int)
}

func (d *documents) edit(document *nsmtest.Document) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.count++
	d.keys[string(document.PublicKey)]++
	if d.seen != nil {
		d.seen(d.count, len(d.keys))
	}
}

func (d *documents) made() (count, keys int) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.count, len(d.keys)
}

func newRig(t *testing.T, opts kmsclient.Options) *rig {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("socket paths of vsockproxy begin with a slash")
	}
	dir, err := os.MkdirTemp("", "kv") // short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{documents: &documents{keys: make(map[string]int)}, endpoint: vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8000)}
	r.world = newWorldWith(t, kmstest.Options{Clock: r.readClock})
	if r.device, err = nsmtest.New(nsmtest.Options{PKI: r.pki, Image: image, EditDocument: r.documents.edit}); err != nil {
		t.Fatal(err)
	}
	r.session = nsm.NewSession(r.device)
	t.Cleanup(func() { _ = r.session.Close() })
	r.cutter = newCutter(t, "127.0.0.1:0", r.kms.Addr())
	r.serve(t, r.cutter.listener.Addr().String())
	t.Cleanup(func() { r.kill() })
	r.client = r.over(t, r.session, opts)
	return r
}

// over makes another client, with another attester.
func (r *rig) over(t testing.TB, attester kmsclient.Attester, opts kmsclient.Options) *kms.Client {
	t.Helper()
	dialer := &vsockproxy.Dialer{Endpoint: r.endpoint}
	opts.Dial = dialer.DialContext
	return r.world.client(t, attester, opts)
}

// serve starts a proxy to the target.
func (r *rig) serve(t testing.TB, target string) {
	t.Helper()
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := vsockproxy.Listen(context.Background(), r.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow, Logger: slog.New(slog.DiscardHandler), DrainTimeout: time.Nanosecond}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, l) }()
	var once sync.Once
	r.kill = func() {
		once.Do(func() {
			cancel()
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

// closeIdle makes the next call dial.
func (r *rig) closeIdle() { closeIdle(r.client) }

func closeIdle(client *kms.Client) {
	client.Options().HTTPClient.(interface{ CloseIdleConnections() }).CloseIdleConnections()
}

// secret is a plaintext that nothing else has. Its envelope needs an answer of
// more than one TLS record.
func secret(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "secret %6d;", i), 100)
}

// seal encrypts the i'th secret, past all faults.
func (r *rig) seal(t testing.TB, i int) []byte {
	t.Helper()
	cfg := r.kms.Config()
	cfg.HTTPClient = r.kms.Client()
	out, err := kms.NewFromConfig(cfg).Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(r.key), Plaintext: secret(i)})
	if err != nil {
		t.Fatal(err)
	}
	return out.CiphertextBlob
}

// attempts is an option of a call: that many attempts, without pauses.
func attempts(n int) func(*kms.Options) {
	return attemptsWith(n, func() time.Duration { return 0 })
}

// attemptsWith asks for the pause before each attempt but the first.
func attemptsWith(n int, pause func() time.Duration) func(*kms.Options) {
	return func(o *kms.Options) {
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
			r.MaxAttempts = n
			r.RateLimiter = ratelimit.None
			r.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return pause(), nil })
		})
	}
}

// wantSecret wants a call to have the i'th secret.
func wantSecret(t testing.TB, i int, out *kms.DecryptOutput, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("error %v", err)
	} else if !bytes.Equal(out.Plaintext, secret(i)) {
		t.Errorf("another plaintext than that of %d", i)
	}
}

// wantFault wants a call to have no output and an error with the reason, whose
// text has the hint.
func wantFault(t testing.TB, out *kms.DecryptOutput, err error, want kmsclient.Reason, hint string) *kmsclient.Error {
	t.Helper()
	if out != nil {
		t.Error("an output beside an error, or instead of one")
	}
	var e *kmsclient.Error
	if !errors.As(err, &e) || e.Op != "Decrypt" || e.Reason != want || !strings.Contains(e.Detail, hint) {
		t.Fatalf("error %v (%T), want the reason %q and the hint %q", err, err, want, hint)
	}
	if ends := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled); ends != (want == kmsclient.ReasonCanceled) && want != kmsclient.ReasonAttestation {
		t.Errorf("as the end of a context: %v; error %v", ends, err)
	}
	return e
}

// deadline is a context whose deadline passes when a test says so.
type deadline struct {
	context.Context
	done chan struct{}
}

func newDeadline(t testing.TB) *deadline { return &deadline{t.Context(), make(chan struct{})} }

func (d *deadline) pass()                 { close(d.done) }
func (d *deadline) Done() <-chan struct{} { return d.done }
func (d *deadline) Err() error {
	select {
	case <-d.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}
