package interop

import (
	"bytes"
	"context"
	"net"
	"net/http"
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

// outside is a client without an enclave.
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
// denying it to others: without an enclave, and in one of another image.
func (s *scene) decryptInsideOnly(t *testing.T, want []byte, decrypt func(*kms.Client) ([]byte, error)) {
	t.Helper()
	got, err := decrypt(s.inside(t, enclaveImage))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("inside: %q, %v", got, err)
	}
	if last := s.last(t); last.Operation != "Decrypt" || !last.Recipient || last.ErrorCode != "" {
		t.Errorf("inside: the last request is %+v", last)
	}
	for _, denied := range []struct {
		who      string
		client   *kms.Client
		attested bool
	}{
		{"outside", s.outside(), false},
		{"another image", s.inside(t, []byte("another image")), true},
	} {
		if got, err := decrypt(denied.client); err == nil || len(got) > 0 {
			t.Errorf("%s: %q, %v", denied.who, got, err)
		}
		if last := s.last(t); last.Operation != "Decrypt" || last.Recipient != denied.attested || last.ErrorCode != "AccessDeniedException" {
			t.Errorf("%s: the last request is %+v", denied.who, last)
		}
	}
}

func (s *scene) last(t *testing.T) kmstest.Request {
	t.Helper()
	requests := s.server.Requests()
	if len(requests) == 0 {
		t.Fatal("no request")
	}
	return requests[len(requests)-1]
}

// TestDropInPlain is what the libraries are measured by.
func TestDropInPlain(t *testing.T) {
	s := newScene(t)
	want := []byte("a secret")
	sealed, err := s.outside().Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(s.key), Plaintext: want})
	if err != nil {
		t.Fatal(err)
	}
	s.decryptInsideOnly(t, want, func(client *kms.Client) ([]byte, error) {
		out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	})
}
