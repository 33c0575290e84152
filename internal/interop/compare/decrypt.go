package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// decryptKMS compares a client's attested Decrypt with the SDK's own, over TLS
// connections that are kept. The document is the same each time. The measure is
// what attestation takes in any case: the SDK's own client given the document,
// and one bare RSA decryption. What is above it is ours, the middleware and the rest of
// the envelope. The SDK's client loses connections, the more the longer the
// request is, so the measure is one that is helped to keep them. The server is in
// the same process, counts in all, and lives as long as the process. How long an
// RSA decryption takes differs from key to key, by more than what is to be
// measured, so there are several, and as many clients, on all sides.
func decryptKMS() (*suite, error) {
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("image")})
	if err != nil {
		return nil, err
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root()})
	if err != nil {
		return nil, err
	}
	key, err := server.CreateKey(kmstest.KeyOptions{})
	if err != nil {
		return nil, err
	}
	replay := httptest.NewTLSServer(&replayer{kms: server, answers: map[[sha256.Size]byte][]byte{}})
	roots := x509.NewCertPool()
	roots.AddCert(replay.Certificate())
	config := server.Config()
	config.BaseEndpoint = aws.String(replay.URL)

	// The SDK's own HTTP client, on whose limits ours is built.
	newChannel := func() kms.HTTPClient {
		return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig.RootCAs = roots })
	}
	const keys = 48
	var plain, keeping, clients []*kms.Client
	var attesters []*oneDocument
	var bareKeys []bareKey
	for range keys {
		attester := &oneDocument{session: nsm.NewSession(device)}
		client, err := kmsclient.New(context.Background(), config, attester, kmsclient.Options{
			KeyIDs: []string{key}, RootCAs: roots, Hosts: []string{"127.0.0.1"},
		})
		if err != nil {
			return nil, err
		}
		bare, err := newBareKey()
		if err != nil {
			return nil, err
		}
		clients, attesters, bareKeys = append(clients, client), append(attesters, attester), append(bareKeys, bare)
		plain = append(plain, kms.NewFromConfig(config, func(o *kms.Options) { o.HTTPClient = newChannel() }))
		keeping = append(keeping, kms.NewFromConfig(config, func(o *kms.Options) { o.HTTPClient = keeper{newChannel()} }))
	}
	sealed, err := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() }).
		Encrypt(context.Background(), &kms.EncryptInput{KeyId: &key, Plaintext: make([]byte, 32)})
	if err != nil {
		return nil, err
	}
	input := &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, KeyId: &key}
	decrypt := func(clients ...*kms.Client) func() error {
		return inTurn(clients, func(client *kms.Client) error {
			out, err := client.Decrypt(context.Background(), input)
			if err == nil && len(out.Plaintext) != 32 {
				err = fmt.Errorf("a plaintext of %d bytes", len(out.Plaintext))
			}
			return err
		})
	}
	attested := decrypt(clients...)
	for range clients { // so that there are documents
		if err := attested(); err != nil {
			return nil, err
		}
	}
	var byHand []handmade
	for i, bare := range bareKeys {
		byHand = append(byHand, handmade{bare, keeping[i], &types.RecipientInfo{
			AttestationDocument: attesters[i].document, KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
		}})
	}
	decryptByHand := inTurn(byHand, func(h handmade) error {
		withDocument := *input
		withDocument.Recipient = h.recipient
		out, err := h.client.Decrypt(context.Background(), &withDocument)
		if err == nil && len(out.CiphertextForRecipient) == 0 {
			err = errors.New("no envelope")
		}
		if err == nil {
			_, err = rsa.DecryptOAEP(sha256.New(), nil, h.private, h.encrypted, nil)
		}
		return err
	})
	return &suite{
		title: "KMS Decrypt",
		contestants: []contestant{
			{name: "AWS SDK, keeping connections, with a recipient, and crypto/rsa", batch: times(120, decryptByHand)},
			{name: "AWS SDK, keeping connections, plain", batch: times(120, decrypt(keeping...))},
			{name: "AWS SDK, plain", batch: times(120, decrypt(plain...))},
			{name: "keyvouch, attested", batch: times(120, attested)},
		},
		more: func() error {
			return pairwise("keyvouch, attested, beside the first of these, call by call", decryptByHand, attested)
		},
	}, nil
}

// bareKey is an RSA key and 32 bytes encrypted with it.
type bareKey struct {
	private   *rsa.PrivateKey
	encrypted []byte
}

func newBareKey() (bareKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return bareKey{}, err
	}
	encrypted, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &private.PublicKey, make([]byte, 32), nil)
	return bareKey{private, encrypted}, err
}

// handmade is what a caller of the SDK's client needs.
type handmade struct {
	bareKey
	client    *kms.Client
	recipient *types.RecipientInfo
}

// inTurn makes calls with each of some things in turn, one at a time.
func inTurn[T any](things []T, call func(T) error) func() error {
	next := 0
	return func() error {
		next++
		return call(things[next%len(things)])
	}
}

// keeper hides a request's body's WriteTo, after whose early end net/http drops
// the connection.
type keeper struct{ kms.HTTPClient }

func (k keeper) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r = r.Clone(r.Context())
		r.Body = struct {
			io.Reader
			io.Closer
		}{r.Body, r.Body}
	}
	return k.HTTPClient.Do(r)
}

// oneDocument is an attester that makes one document, for the client's one key.
type oneDocument struct {
	session   *nsm.Session
	once      sync.Once
	publicKey []byte
	document  []byte
	err       error
}

func (a *oneDocument) Attest(ctx context.Context, r nsm.AttestationRequest) ([]byte, error) {
	a.once.Do(func() {
		a.publicKey = r.PublicKey
		a.document, a.err = a.session.Attest(ctx, r)
	})
	if !bytes.Equal(r.PublicKey, a.publicKey) {
		return nil, errors.New("another public key than the first")
	}
	return a.document, a.err
}

// replayer gets one answer from a KMS for each request that differs, and repeats
// it: KMS's own work is not to be measured.
type replayer struct {
	kms     *kmstest.Server
	mu      sync.Mutex
	answers map[[sha256.Size]byte][]byte // by the request's body
}

func (p *replayer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := p.answer(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_, _ = w.Write(answer)
}

func (p *replayer) answer(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	which := sha256.Sum256(body)
	if answer := p.answers[which]; answer != nil {
		return answer, nil
	}
	// The signature covers the host that the client knows.
	request, err := http.NewRequestWithContext(r.Context(), r.Method, p.kms.URL(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header, request.Host = r.Header, r.Host
	response, err := p.kms.Client().Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	if err == nil {
		p.answers[which] = answer
	}
	return answer, err
}
