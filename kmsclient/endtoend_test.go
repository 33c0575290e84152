package kmsclient_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// world is a KMS, an enclave and a key that only this enclave may use.
type world struct {
	kms     *kmstest.Server
	session *nsm.Session
	pki     *nsmtest.PKI
	key     string
}

var image = []byte("an enclave image")

func newWorld(t testing.TB, form kmstest.EnvelopeForm) *world {
	t.Helper()
	return newWorldWith(t, kmstest.Options{EnvelopeForm: form})
}

func newWorldWith(t testing.TB, opts kmstest.Options) *world {
	t.Helper()
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{pki: pki}
	opts.AttestationRoot, opts.Region, opts.WithoutIAMPermissions = pki.Root(), "eu-west-1", true
	if w.kms, err = kmstest.NewServer(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kms.Close)
	w.session = w.enclave(t, nsmtest.Options{Image: image})
	pcr0, _, _ := nsmtest.Measure(image)
	if w.key, err = w.kms.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0)), Alias: "alias/orders"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) enclave(t testing.TB, opts nsmtest.Options) *nsm.Session {
	t.Helper()
	opts.PKI = w.pki
	device, err := nsmtest.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func (w *world) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, w.kms.Addr())
}

// client makes a client of the enclave, with the world's key pinned if opts
// pin none.
func (w *world) client(t testing.TB, attester kmsclient.Attester, opts kmsclient.Options, optFns ...func(*kms.Options)) *kms.Client {
	t.Helper()
	if opts.KeyIDs == nil && !opts.UnsafeAnyKey {
		opts.KeyIDs = []string{w.key}
	}
	if opts.Dial == nil {
		opts.Dial = w.dial
	}
	opts.RootCAs = w.kms.RootCAs()
	client, err := kmsclient.New(t.Context(), w.kms.Config(), attester, opts, optFns...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	return client
}

func reason(err error) kmsclient.Reason {
	var e *kmsclient.Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

func TestEndToEnd(t *testing.T) {
	for name, form := range map[string]kmstest.EnvelopeForm{"chunked": kmstest.EnvelopeChunked, "primitive": kmstest.EnvelopePrimitive} {
		for _, bits := range []int{2048, 3072, 4096} {
			if bits != 2048 && form != kmstest.EnvelopeChunked {
				continue
			}
			t.Run(fmt.Sprintf("%s, %d bits", name, bits), func(t *testing.T) {
				w := newWorld(t, form)
				testEndToEnd(t, w, w.client(t, w.session, kmsclient.Options{KeyBits: bits}))
			})
		}
	}
}

func TestEndToEndWithOption(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	option, err := kmsclient.Attested(t.Context(), w.session, kmsclient.Options{KeyIDs: []string{w.key}, Dial: w.dial, RootCAs: w.kms.RootCAs()})
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(w.kms.Config(), option)
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	testEndToEnd(t, w, client)
}

func testEndToEnd(t *testing.T, w *world, client *kms.Client) {
	ctx := t.Context()
	binding := map[string]string{"tenant": "7"}
	decrypt := func(blob []byte) ([]byte, error) {
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: binding})
		if err != nil {
			return nil, err
		}
		if out.CiphertextForRecipient != nil || aws.ToString(out.KeyId) != w.key {
			t.Errorf("output %+v", out)
		}
		return out.Plaintext, nil
	}

	for _, size := range []int{1, 32, 4096} {
		want := make([]byte, size)
		rand.Read(want)
		sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(w.key), Plaintext: want, EncryptionContext: binding})
		if err != nil {
			t.Fatal(err)
		}
		got, err := decrypt(sealed.CiphertextBlob)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Decrypt of %d bytes: %v", size, err)
		}
		_, err = client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		var invalid *types.InvalidCiphertextException
		if reason(err) != kmsclient.ReasonKMS || !errors.As(err, &invalid) {
			t.Errorf("Decrypt without the encryption context: %v", err)
		}
	}

	for _, input := range []*kms.GenerateDataKeyInput{
		{KeySpec: types.DataKeySpecAes256}, {KeySpec: types.DataKeySpecAes128},
		{NumberOfBytes: aws.Int32(1)}, {NumberOfBytes: aws.Int32(64)}, {NumberOfBytes: aws.Int32(1024)},
	} {
		input.KeyId, input.EncryptionContext = aws.String("alias/orders"), binding
		out, err := client.GenerateDataKey(ctx, input)
		if err != nil {
			t.Errorf("GenerateDataKey: %v", err)
			continue
		}
		if got, err := decrypt(out.CiphertextBlob); err != nil || !bytes.Equal(got, out.Plaintext) {
			t.Errorf("the data key decrypts to something else: %v", err)
		}
	}

	for _, spec := range []types.DataKeyPairSpec{types.DataKeyPairSpecRsa2048, types.DataKeyPairSpecEccNistP256} {
		out, err := client.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: aws.String(w.key), KeyPairSpec: spec, EncryptionContext: binding})
		if err != nil {
			t.Errorf("GenerateDataKeyPair: %v", err)
			continue
		}
		if _, err := x509.ParsePKCS8PrivateKey(out.PrivateKeyPlaintext); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
		if got, err := decrypt(out.PrivateKeyCiphertextBlob); err != nil || !bytes.Equal(got, out.PrivateKeyPlaintext) {
			t.Errorf("the private key decrypts to something else: %v", err)
		}
	}
}

// TestAlias pins the key that an alias leads to: that it is pointed elsewhere later
// on is noticed.
func TestAlias(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	alias := strings.Split(w.key, ":key/")[0] + ":alias/orders"
	opts := kmsclient.Options{Dial: w.dial, RootCAs: w.kms.RootCAs()}
	resolved, err := kmsclient.ResolveAlias(t.Context(), w.kms.Config(), alias, kmsclient.ResolveOptions{Dial: opts.Dial, RootCAs: opts.RootCAs, Hosts: opts.Hosts})
	if err != nil || resolved != w.key {
		t.Fatalf("%q, error %v", resolved, err)
	}
	client := w.client(t, w.session, kmsclient.Options{KeyIDs: []string{resolved}})
	dataKey := &kms.GenerateDataKeyInput{KeyId: &alias, KeySpec: types.DataKeySpecAes256}
	if _, err := client.GenerateDataKey(t.Context(), dataKey); err != nil {
		t.Fatal(err)
	}
	other, err := w.kms.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0Of(image)))})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.kms.SetAlias("alias/orders", other); err != nil {
		t.Fatal(err)
	}
	if out, err := client.GenerateDataKey(t.Context(), dataKey); out != nil || reason(err) != kmsclient.ReasonResponseKey {
		t.Errorf("after the alias was pointed elsewhere: %v", err)
	}
}

func pcr0Of(image []byte) [48]byte {
	pcr0, _, _ := nsmtest.Measure(image)
	return pcr0
}

func TestGenerateRandom(t *testing.T) {
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{pki: pki}
	if w.kms, err = kmstest.NewServer(kmstest.Options{AttestationRoot: pki.Root()}); err != nil {
		t.Fatal(err)
	}
	defer w.kms.Close()
	client := w.client(t, w.enclave(t, nsmtest.Options{Image: image}), kmsclient.Options{UnsafeAnyKey: true})
	for _, n := range []int32{1, 32, 1024} {
		out, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(n)})
		if err != nil || len(out.Plaintext) != int(n) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestDeriveSharedSecret(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	pcr0, _, _ := nsmtest.Measure(image)
	key, err := w.kms.CreateKey(kmstest.KeyOptions{Spec: types.KeySpecEccNistP384, Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))})
	if err != nil {
		t.Fatal(err)
	}
	client := w.client(t, w.session, kmsclient.Options{KeyIDs: []string{key, w.key}})
	theirs, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: aws.String(key), PublicKey: spki,
		KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(theirs.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	point, err := public.(interface {
		ECDH() (*ecdh.PublicKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	want, err := mine.ECDH(point)
	if err != nil || !bytes.Equal(out.SharedSecret, want) {
		t.Errorf("another secret: %v", err)
	}
}

// Who isn't this enclave gets nothing, and is told why as far as KMS says.
func TestDenied(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	owner := w.client(t, w.session, kmsclient.Options{})
	sealed, err := owner.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(w.key), Plaintext: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	for name, session := range map[string]*nsm.Session{
		"other image": w.enclave(t, nsmtest.Options{Image: []byte("another image")}),
		"debug mode":  w.enclave(t, nsmtest.Options{Image: image, Debug: true}),
	} {
		t.Run(name, func(t *testing.T) {
			out, err := w.client(t, session, kmsclient.Options{}).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			if out != nil || reason(err) != kmsclient.ReasonAccessDenied || !strings.Contains(err.Error(), "PCR") {
				t.Errorf("output %v, error %v", out, err)
			}
		})
	}
	t.Run("other root", func(t *testing.T) {
		device, err := nsmtest.New(nsmtest.Options{Image: image})
		if err != nil {
			t.Fatal(err)
		}
		session := nsm.NewSession(device)
		defer session.Close()
		out, err := w.client(t, session, kmsclient.Options{}).Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if r := reason(err); out != nil || r != kmsclient.ReasonAccessDenied && r != kmsclient.ReasonKMS {
			t.Errorf("output %v, error %v", out, err)
		}
	})
}

// A second attempt is signed and attested anew: the server checks both.
func TestRetryIsSigned(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	var dials atomic.Int32
	counting := &countingAttester{Attester: w.session}
	client := w.client(t, counting, kmsclient.Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) < 3 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("the proxy restarts")}
		}
		return w.dial(ctx, network, address)
	}}, func(o *kms.Options) {
		o.Retryer = retry.NewStandard(func(r *retry.StandardOptions) {
			r.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(w.key), KeySpec: types.DataKeySpecAes256})
	if err != nil || len(out.Plaintext) != 32 {
		t.Fatal(err)
	}
	if counting.count.Load() != 3 {
		t.Errorf("%d documents for 3 attempts", counting.count.Load())
	}
}

type countingAttester struct {
	kmsclient.Attester
	count atomic.Int32
}

func (c *countingAttester) Attest(ctx context.Context, r nsm.AttestationRequest) ([]byte, error) {
	c.count.Add(1)
	return c.Attester.Attest(ctx, r)
}

func TestEndToEndConcurrently(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	client := w.client(t, w.session, kmsclient.Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 3 {
				key, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(w.key), KeySpec: types.DataKeySpecAes256})
				if err != nil {
					t.Error(err)
					return
				}
				out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: key.CiphertextBlob})
				if err != nil || !bytes.Equal(out.Plaintext, key.Plaintext) {
					t.Errorf("another key: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkDecrypt(b *testing.B) {
	w := newWorld(b, kmstest.EnvelopeChunked)
	client := w.client(b, w.session, kmsclient.Options{})
	sealed, err := client.Encrypt(b.Context(), &kms.EncryptInput{KeyId: aws.String(w.key), Plaintext: make([]byte, 32)})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Decrypt(b.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
			b.Fatal(err)
		}
	}
}
