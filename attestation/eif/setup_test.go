package eif_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// contents is a small image like those of nitro-cli: two ram disks.
func contents() eif.Contents {
	return eif.Contents{
		Kernel:   bytes.NewReader([]byte("kernel")),
		Cmdline:  "reboot=k panic=30",
		Ramdisks: []eif.Source{bytes.NewReader([]byte("init")), bytes.NewReader([]byte("application"))},
		Metadata: eif.Metadata{
			ImageName: "shop", ImageVersion: "4.1",
			Build: eif.BuildMetadata{
				BuildTime: "2026-01-02T03:04:05Z", BuildTool: "go test", BuildToolVersion: "1",
				OperatingSystem: "Linux", KernelVersion: "6.12",
			},
		},
	}
}

// newSigner makes a key and a certificate that it signs itself.
func newSigner(t testing.TB, curve elliptic.Curve) *eif.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "image signer", Organization: []string{"Shop"}},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(4_000_000_000, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &eif.Signer{Key: key, Certificate: certificate}
}

// write makes the image's file.
func write(t testing.TB, c eif.Contents) ([]byte, *eif.Image) {
	t.Helper()
	var file bytes.Buffer
	image, err := eif.Write(&file, c)
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), image
}

func read(t testing.TB, file []byte) *eif.Image {
	t.Helper()
	image, err := eif.Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func hasReason(t testing.TB, err error, reason eif.Reason) *eif.Error {
	t.Helper()
	e, ok := errors.AsType[*eif.Error](err)
	if !ok || e.Reason != reason {
		t.Fatalf("the error is %v, not of reason %q", err, reason)
	}
	return e
}
