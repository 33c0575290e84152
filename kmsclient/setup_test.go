package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// option makes the SDK's option for the stub, with keyA pinned.
func (s *stub) option(t *testing.T) func(*kms.Options) {
	t.Helper()
	option, err := Attested(t.Context(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	var o kms.Options
	option(&o)
	t.Cleanup(o.HTTPClient.(*http.Client).CloseIdleConnections)
	return option
}

func forbidden(t *testing.T) *http.Client {
	return &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("another HTTP client was used")
		return nil, errors.New("no")
	})}
}

func decrypts(t *testing.T, client *kms.Client, optFns ...func(*kms.Options)) {
	t.Helper()
	out, err := client.Decrypt(t.Context(), decryptInput, optFns...)
	if err != nil || string(out.Plaintext) != "plaintext" {
		t.Errorf("error %v", err)
	}
}

// Whatever the HTTP client of the configuration or of an earlier option is, it
// isn't used.
func TestAttested(t *testing.T) {
	s := newStub(t, honest(t))
	option := s.option(t)
	cfg := testConfig()
	cfg.HTTPClient = forbidden(t)
	earlier := func(o *kms.Options) { o.HTTPClient = forbidden(t) }

	first, second := kms.NewFromConfig(cfg, option), kms.NewFromConfig(cfg, earlier, option)
	decrypts(t, first)
	decrypts(t, second)
	decrypts(t, kms.New(kms.Options{Region: region, Credentials: cfg.Credentials, HTTPClient: forbidden(t)}, option))
	decrypts(t, kms.NewFromConfig(cfg), option) // for one call only

	decrypts(t, kms.NewFromConfig(cfg, s.option(t)))
	var keys []string
	for _, r := range s.seen() {
		d := r.document(t)
		keys = append(keys, string(d[:len(d)-1]))
	}
	if len(keys) != 5 || keys[1] != keys[0] || keys[2] != keys[0] || keys[3] != keys[0] || keys[4] == keys[0] {
		t.Error("each option must have one key, of its own")
	}

	_, err := first.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyB), Plaintext: []byte("p")})
	wantError(t, err, "Encrypt", ReasonKeyNotPinned)
}

// Twice is once too often, and fails before anything is sent.
func TestAttestedTwice(t *testing.T) {
	s := newStub(t, honest(t))
	option := s.option(t)
	if out, err := kms.NewFromConfig(testConfig(), option, option).Decrypt(t.Context(), decryptInput); out != nil || err == nil {
		t.Errorf("output %v", out)
	}
	if out, err := kms.NewFromConfig(testConfig(), option).Decrypt(t.Context(), decryptInput, option); out != nil || err == nil {
		t.Errorf("output %v", out)
	}
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestAttestedRefuses(t *testing.T) {
	for _, test := range []struct {
		attester Attester
		opts     Options
		detail   string
	}{
		{nil, Options{KeyIDs: []string{keyA}}, "attester"},
		{&fakeAttester{}, Options{}, "KeyIDs is empty"},
		{&fakeAttester{}, Options{KeyIDs: []string{"alias/orders"}}, "alias"},
		{&fakeAttester{}, Options{KeyIDs: []string{keyA}, KeyBits: 1024}, "KeyBits"},
		{&fakeAttester{}, Options{KeyIDs: []string{keyA}, Hosts: []string{"https://kms"}}, "Hosts"},
	} {
		option, err := Attested(t.Context(), test.attester, test.opts)
		if e := wantError(t, err, "Attested", ReasonInvalidOptions); option != nil || !strings.Contains(e.Error(), test.detail) {
			t.Errorf("error %v, want %q", err, test.detail)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if option, err := Attested(ctx, &fakeAttester{}, Options{KeyIDs: []string{keyA}}); option != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context: error %v", err)
	}
}

// What New refuses at once, each call of such a client refuses, of whatever
// operation.
func TestAttestedRegion(t *testing.T) {
	s := newStub(t, honest(t))
	option := s.option(t)
	for _, wrong := range []string{"us-east-1", ""} {
		cfg := testConfig()
		cfg.Region = wrong
		client := kms.NewFromConfig(cfg, option)
		out, err := client.Decrypt(t.Context(), decryptInput)
		if e := wantError(t, err, "Decrypt", ReasonInvalidOptions); out != nil || !strings.Contains(e.Detail, "region") {
			t.Errorf("output %v, error %v", out, err)
		}
		_, err = client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyA), Plaintext: []byte("p")})
		wantError(t, err, "Encrypt", ReasonInvalidOptions)
	}
	client, _ := s.client(t)
	_, err := client.Decrypt(t.Context(), decryptInput, func(o *kms.Options) { o.Region = "us-east-1" })
	wantError(t, err, "Decrypt", ReasonInvalidOptions)
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests", n)
	}
}
