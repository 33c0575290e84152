package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/elf"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

// issue makes a certificate for a key, in PEM.
func issue(t testing.TB, key crypto.Signer, notAfter time.Time) string {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "image signer"},
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func pkcs8(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// ecParam is a key as openssl ecparam -genkey writes it, parameters first.
func ecParam(t testing.TB, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}}) // secp384r1
	return string(parameters) + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What a key policy names to let updates pass, PCR1 and PCR8, stays the same in a new
// release; and two signed builds are the same file.
func TestSigned(t *testing.T) {
	dir := t.TempDir()
	put := putIn(t, dir)
	release := string(program(elf.EM_X86_64, nil))
	key := newKey(t)
	in := inputs{
		kernel: put("bzImage", kernel(nil)), cmdline: defaultCmdline, config: put("config.json", sampleConfig),
		modules:    []string{put("nsm.ko", "module")},
		signingKey: put("pkcs8.pem", pkcs8(t, key)), signingCertificate: put("certificate.pem", issue(t, key, time.Now().Add(time.Hour))),
		output: filepath.Join(dir, "image.eif"),
	}
	made := func(in inputs) ([]byte, map[int]attestation.PCR) {
		t.Helper()
		var printed bytes.Buffer
		if err := build(in, &printed); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(in.output)
		if err != nil {
			t.Fatal(err)
		}
		image, err := eif.Read(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		expected, err := attestation.ParseMeasurement(printed.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if image.Signature == nil || expected.PCRs[attestation.PCRSigner] != attestation.SignerPCR(image.Signature.Certificate) {
			t.Fatalf("PCR8 is %v", expected.PCRs[attestation.PCRSigner])
		}
		return file, expected.PCRs
	}
	in.program = put("enclave", release)
	first, old := made(in)
	in.signingKey = put("ecparam.pem", ecParam(t, key))
	if again, _ := made(in); !bytes.Equal(first, again) {
		t.Error("two builds make two images")
	}
	in.program = put("enclave", release+"\x00")
	_, updated := made(in)
	for index, same := range map[int]bool{0: false, 1: true, 2: false, 8: true} {
		if (old[index] == updated[index]) != same {
			t.Errorf("after an update, PCR%d is %v and was %v", index, updated[index], old[index])
		}
	}
}

func TestReadSigner(t *testing.T) {
	key, now := newKey(t), time.Now()
	good := issue(t, key, now.Add(time.Hour))
	for name, c := range map[string]struct{ key, certificate, want string }{
		"not a key":             {"hello", good, "want a certificate and its private key in PEM"},
		"not a certificate":     {pkcs8(t, key), "hello", "want a certificate and its private key in PEM"},
		"switched":              {good, pkcs8(t, key), "switched"},
		"another key":           {pkcs8(t, newKey(t)), good, "does not match"},
		"an encrypted key":      {string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("ciphertext")})), good, "the key not encrypted"},
		"a certificate expired": {pkcs8(t, key), issue(t, key, now.Add(-time.Hour)), "expired on"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := []string{filepath.Join(dir, "key.pem"), filepath.Join(dir, "certificate.pem")}
			for i, content := range []string{c.key, c.certificate} {
				if err := os.WriteFile(files[i], []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			signer, err := readSigner(files[0], files[1], now)
			if err == nil || signer != nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "certificate.pem") {
				t.Errorf("%v, %v", signer, err)
			}
		})
	}
}
