package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What another implementation seals must open.
func TestOpenOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	if help, _ := exec.Command(openssl, "cms", "-help").CombinedOutput(); !strings.Contains(string(help), "-keyopt") || !strings.Contains(string(help), "-keyid") {
		t.Skip("this openssl's cms command lacks -keyopt or -keyid")
	}
	key := testKey(t, 2048)
	// openssl names the recipient by the certificate's key identifier.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "recipient"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), SubjectKeyId: keyID(t, key)}
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
		cmd := exec.Command(openssl, append(append([]string{}, base...), options...)...)
		cmd.Stdin = bytes.NewReader(plaintext)
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, &stderr)
		}
		return out.Bytes()
	}
	for _, size := range []int{1, 16, 32, 1000, 4096} {
		for name, options := range map[string][]string{"definite": oaep, "indefinite": append([]string{"-stream"}, oaep...)} {
			t.Run(name, func(t *testing.T) {
				want := random(size)
				got, err := Open(seal(t, want, options...), key)
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
		want    Reason
	}{
		"PKCS #1 v1.5":    {nil, ReasonKeyEncryption},
		"OAEP with SHA-1": {[]string{"-keyopt", "rsa_padding_mode:oaep"}, ReasonKeyEncryption},
		"MGF1 with SHA-1": {[]string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha1"}, ReasonKeyEncryption},
		"label":           {append(append([]string{}, oaep...), "-keyopt", "rsa_oaep_label:0102"), ReasonKeyEncryption},
	}
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			got, err := Open(seal(t, random(32), test.options...), key)
			wantReason(t, got, err, test.want)
		})
	}
}
