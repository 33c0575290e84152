package channel

import (
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func TestDefaultRoots(t *testing.T) {
	want := []string{
		"Amazon Root CA 1",
		"Amazon Root CA 2",
		"Amazon Root CA 3",
		"Amazon Root CA 4",
		"Starfield Services Root Certificate Authority - G2",
	}
	var got []string
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if ofAmazon(certificate) {
			got = append(got, certificate.Subject.CommonName)
			pool.AddCert(certificate)
			switch key := certificate.PublicKey.(type) {
			case *rsa.PublicKey, *ecdsa.PublicKey:
			default:
				t.Errorf("%s has a key of type %T", certificate.Subject.CommonName, key)
			}
			if root.Constraint != nil {
				t.Errorf("%s is constrained: see whether KMS's certificates still lead to it", certificate.Subject.CommonName)
			}
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("roots %q, want %q", got, want)
	}
	if !pool.Equal(amazonRoots()) {
		t.Error("amazonRoots has others")
	}
}

func TestDefaultChannel(t *testing.T) {
	// What an attacker who sets up the process's surroundings would try.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("SSL_CERT_FILE", "/nonexistent")
	t.Setenv("AWS_CA_BUNDLE", "/nonexistent")
	transport := New(nil, nil).Transport.(Transport).Transport
	if transport.Proxy != nil {
		t.Error("a proxy")
	}
	c := transport.TLSClientConfig
	// Go's own choice: TLS 1.3, and a hybrid of X25519 and ML-KEM first.
	if c.MaxVersion != 0 || c.CurvePreferences != nil && !fips140.Enabled() {
		t.Errorf("at most TLS %x, curves %v", c.MaxVersion, c.CurvePreferences)
	}
	if c.InsecureSkipVerify || c.ServerName != "" || c.VerifyPeerCertificate != nil || c.MinVersion < tls.VersionTLS12 {
		t.Errorf("TLS configuration %+v", c)
	}
	if c.RootCAs == nil || !c.RootCAs.Equal(amazonRoots()) {
		t.Error("other roots")
	}
	if transport.DialContext == nil || transport.DialTLSContext != nil {
		t.Error("dialing")
	}
}
