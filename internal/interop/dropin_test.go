package interop

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// scene is a KMS with a key that anyone may encrypt with and one enclave image
// may decrypt with, for libraries that take a KMS client.
type scene struct {
	server *kmstest.Server
	pki    *nsmtest.PKI
	key    string // ARN
	seen   int    // requests that expect has looked at
}

var enclaveImage = []byte("an enclave image")

// newScene makes the key with AllowAttested's policy, by which everyone may
// kms:Encrypt, and with whatever actions more for everyone.
func newScene(t *testing.T, actions ...string) *scene {
	t.Helper()
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{})
	if err != nil {
		t.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: pki.Root(), Region: "eu-west-1", WithoutIAMPermissions: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	pcr0, _, _ := nsmtest.Measure(enclaveImage)
	policy := kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))
	if len(actions) > 0 {
		policy.Statements = append(policy.Statements, kmstest.Statement{Effect: kmstest.Allow, Principals: []string{"*"}, Actions: actions})
	}
	key, err := server.CreateKey(kmstest.KeyOptions{Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	return &scene{server: server, pki: pki, key: key}
}

// outside is a client without an enclave. It has the enclave's credentials, as
// the parent does.
func (s *scene) outside() *kms.Client {
	return kms.NewFromConfig(s.server.Config(), func(o *kms.Options) { o.HTTPClient = s.server.Client() })
}

// inside is the client of an enclave that runs an image.
func (s *scene) inside(t *testing.T, image []byte) *kms.Client {
	t.Helper()
	device, err := nsmtest.New(nsmtest.Options{Image: image, PKI: s.pki})
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	t.Cleanup(func() { _ = session.Close() })
	client, err := kmsclient.New(t.Context(), s.server.Config(), session, kmsclient.Options{
		KeyIDs:  []string{s.key},
		RootCAs: s.server.RootCAs(),
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, s.server.Addr())
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Options().HTTPClient.(*http.Client).CloseIdleConnections)
	return client
}

// decryptInsideOnly decrypts with the client of the enclave, and holds KMS to
// denying it to others: without an enclave, and in one of another image. Each
// time it is one request.
func (s *scene) decryptInsideOnly(t *testing.T, want []byte, decrypt func(*kms.Client) ([]byte, error)) {
	t.Helper()
	got, err := decrypt(s.inside(t, enclaveImage))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("inside: %q, %v", got, err)
	}
	s.expect(t, "attested Decrypt")
	for _, denied := range []struct {
		who     string
		client  *kms.Client
		request string
	}{
		{"outside", s.outside(), "Decrypt: AccessDeniedException"},
		{"another image", s.inside(t, []byte("another image")), "attested Decrypt: AccessDeniedException"},
	} {
		if got, err := decrypt(denied.client); err == nil || len(got) > 0 {
			t.Errorf("%s: %q, %v", denied.who, got, err)
		}
		s.expect(t, denied.request)
	}
}

// expect compares the requests that KMS had since the last call of it, written
// like "attested Decrypt: AccessDeniedException", with those wanted.
func (s *scene) expect(t *testing.T, want ...string) {
	t.Helper()
	requests := s.server.Requests()
	var got []string
	for _, r := range requests[s.seen:] {
		request := r.Operation
		if r.Recipient {
			request = "attested " + request
		}
		if r.ErrorCode != "" {
			request += ": " + r.ErrorCode
		}
		got = append(got, request)
	}
	s.seen = len(requests)
	if !slices.Equal(got, want) {
		t.Errorf("KMS had %q, want %q", got, want)
	}
}

// TestDropInPlain is what the libraries are measured by.
func TestDropInPlain(t *testing.T) {
	s := newScene(t)
	want := []byte("a secret")
	sealed, err := s.outside().Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(s.key), Plaintext: want})
	if err != nil {
		t.Fatal(err)
	}
	s.expect(t, "Encrypt")
	s.decryptInsideOnly(t, want, func(client *kms.Client) ([]byte, error) {
		out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	})
}
