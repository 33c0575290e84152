package interop

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// openssl is the program, if it can do with envelopes what these tests ask for.
func openssl(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	if help, _ := exec.Command(program, "cms", "-help").CombinedOutput(); !strings.Contains(string(help), "-keyopt") || !strings.Contains(string(help), "-keyid") {
		t.Skip("this openssl's cms command lacks -keyopt or -keyid")
	}
	return program
}

// pipe runs a command on input and returns what it prints.
func pipe(t *testing.T, input []byte, command *exec.Cmd) []byte {
	t.Helper()
	command.Stdin = bytes.NewReader(input)
	var out, stderr bytes.Buffer
	command.Stdout, command.Stderr = &out, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, &stderr)
	}
	return out.Bytes()
}

func newKey(t *testing.T) (key *rsa.PrivateKey, spki []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err = x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, spki
}

// OpenSSL opens what the KMS stand-in answers, in both forms of the envelope.
func TestOpenSSLDecrypts(t *testing.T) {
	program := openssl(t)
	key, spki := newKey(t)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600); err != nil {
		t.Fatal(err)
	}
	device, err := nsmtest.New(nsmtest.Options{Image: enclaveImage})
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer session.Close()
	for name, form := range map[string]kmstest.EnvelopeForm{"chunked": kmstest.EnvelopeChunked, "primitive": kmstest.EnvelopePrimitive} {
		t.Run(name, func(t *testing.T) {
			server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root(), EnvelopeForm: form})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			id, err := server.CreateKey(kmstest.KeyOptions{})
			if err != nil {
				t.Fatal(err)
			}
			client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
			for _, size := range []int{1, 15, 16, 32, 991, 1000, 4096} {
				want := random(size)
				sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: want})
				if err != nil {
					t.Fatal(err)
				}
				document, err := session.Attest(t.Context(), nsm.AttestationRequest{PublicKey: spki})
				if err != nil {
					t.Fatal(err)
				}
				out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, Recipient: &types.RecipientInfo{
					AttestationDocument: document, KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
				}})
				if err != nil {
					t.Fatal(err)
				}
				got := pipe(t, out.CiphertextForRecipient, exec.Command(program, "cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", keyFile))
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes: another plaintext", size)
				}
			}
		})
	}
}

func random(size int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	return b
}

// What OpenSSL seals must open.
func TestOpenSSLEncrypts(t *testing.T) {
	program := openssl(t)
	key, spki := newKey(t)
	keyID := sha256.Sum256(spki)
	// openssl names the recipient by the certificate's key identifier.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "recipient"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), SubjectKeyId: keyID[:]}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate := filepath.Join(dir, "recipient.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}

	base := []string{"cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-cbc", "-keyid", "-recip", certificate}
	oaep := []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256"}
	seal := func(t *testing.T, plaintext []byte, options ...string) []byte {
		t.Helper()
		return pipe(t, plaintext, exec.Command(program, append(slices.Clone(base), options...)...))
	}
	for _, size := range []int{1, 16, 32, 1000, 4096} {
		for name, options := range map[string][]string{"definite": oaep, "indefinite": append([]string{"-stream"}, oaep...)} {
			t.Run(name, func(t *testing.T) {
				want := random(size)
				got, err := cms.Open(seal(t, want, options...), key)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Fatal("another plaintext")
				}
			})
		}
	}
	refused := map[string]struct {
		options []string
		want    cms.Reason
	}{
		"PKCS #1 v1.5":    {nil, cms.ReasonKeyEncryption},
		"OAEP with SHA-1": {[]string{"-keyopt", "rsa_padding_mode:oaep"}, cms.ReasonKeyEncryption},
		"MGF1 with SHA-1": {[]string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha1"}, cms.ReasonKeyEncryption},
		"label":           {append(slices.Clone(oaep), "-keyopt", "rsa_oaep_label:0102"), cms.ReasonKeyEncryption},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			got, err := cms.Open(seal(t, random(32), test.options...), key)
			var e *cms.Error
			if got != nil || !errors.As(err, &e) || e.Reason != test.want {
				t.Errorf("%d bytes, error %v, want the reason %q", len(got), err, test.want)
			}
		})
	}
}
