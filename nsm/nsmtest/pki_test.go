package nsmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

func parse(t testing.TB, chain Chain) (certificates []*x509.Certificate) {
	t.Helper()
	for _, der := range append(slices.Clone(chain.CABundle), chain.Certificate) {
		if len(der) > 1024 {
			t.Errorf("a certificate of %d bytes", len(der))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		certificates = append(certificates, c)
	}
	return certificates
}

func verify(certificates []*x509.Certificate, root *x509.Certificate, at time.Time) error {
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	opts.Roots.AddCert(root)
	last := len(certificates) - 1
	for _, c := range certificates[:last] {
		opts.Intermediates.AddCert(c)
	}
	_, err := certificates[last].Verify(opts)
	return err
}

func TestChainShape(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 500, time.UTC)
	n := newNSM(t, Options{ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", Clock: func() time.Time { return now }})
	chain, err := n.Chain()
	if err != nil {
		t.Fatal(err)
	}
	certificates := parse(t, chain)
	if err := verify(certificates, n.Root(), now); err != nil {
		t.Error(err)
	}
	ca := x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for i, want := range []struct {
		path     int
		validity time.Duration
		usage    x509.KeyUsage
		serial   int // bytes at most
	}{
		{-1, 0, ca, 16},
		{2, 20*day + time.Hour, ca, 16},
		{1, 6*day - 3*time.Hour, ca, 16},
		{0, day, x509.KeyUsageCertSign, 20},
		{-1, 3*time.Hour + 3*time.Second, x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment, 16},
	} {
		c, level := certificates[i], Level(i)
		if c.MaxPathLen != want.path || c.KeyUsage != want.usage || !c.BasicConstraintsValid || c.IsCA != (level != LevelLeaf) ||
			c.SignatureAlgorithm != x509.ECDSAWithSHA384 || c.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P384() || c.Version != 3 ||
			len(c.ExtKeyUsage)+len(c.UnhandledCriticalExtensions) != 0 || c.SerialNumber.BitLen() > 8*want.serial {
			t.Errorf("%s: %+v", level, c)
		}
		if got := c.NotAfter.Sub(c.NotBefore); level != LevelRoot && got != want.validity {
			t.Errorf("%s is valid for %v, want %v", level, got, want.validity)
		}
		for _, e := range c.Extensions {
			critical := e.Id.Equal(oidKeyUsage) && level != LevelLeaf || e.Id.String() == "2.5.29.19"
			if e.Critical != critical {
				t.Errorf("%s: extension %v critical: %t", level, e.Id, e.Critical)
			}
		}
		if leaf := level == LevelLeaf; leaf != (len(c.SubjectKeyId) == 0) || (leaf || level == LevelRoot) != (len(c.AuthorityKeyId) == 0) {
			t.Errorf("%s: key identifiers %x %x", level, c.SubjectKeyId, c.AuthorityKeyId)
		}
		if points := len(c.CRLDistributionPoints) > 0; points != (level == LevelRegional || level == LevelZonal) {
			t.Errorf("%s: CRL distribution points %v", level, c.CRLDistributionPoints)
		}
	}
	if years := certificates[0].NotAfter.Year() - certificates[0].NotBefore.Year(); years != 30 {
		t.Errorf("the root is valid for %d years", years)
	}
	leaf := certificates[4]
	if want := "i-0123456789abcdef0-enc0123456789abcdef.us-east-1.aws"; leaf.Subject.CommonName != want {
		t.Errorf("leaf %q, want %q", leaf.Subject.CommonName, want)
	}
	serial := new(big.Int).SetBytes(append(unhex(t, "0123456789abcdef 00000000"), byte(now.Unix()>>24), byte(now.Unix()>>16), byte(now.Unix()>>8), byte(now.Unix())))
	if leaf.SerialNumber.Cmp(serial) != 0 {
		t.Errorf("leaf's serial number %x, want %x", leaf.SerialNumber, serial)
	}
}

// The names have AWS's encoding, so the test root cannot be told by its name.
func TestRootSubjectIsAWS(t *testing.T) {
	der, err := os.ReadFile(filepath.Join("..", "..", "attestation", "roots", "aws-nitro-enclaves-g1.der"))
	if err != nil {
		t.Skipf("AWS's root certificate is not where it was: %v", err)
	}
	aws, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	root := newNSM(t, Options{}).Root()
	if string(root.RawSubject) != string(aws.RawSubject) || string(root.RawIssuer) != string(aws.RawIssuer) {
		t.Errorf("got  %x\nwant %x", root.RawSubject, aws.RawSubject)
	}
	if aws.PublicKey.(*ecdsa.PublicKey).Equal(root.PublicKey) {
		t.Error("AWS's own key")
	}
}

func TestCertificatesAreRenewed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	n := newNSM(t, Options{Clock: func() time.Time { return now }})
	before, err := n.Chain()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		after   time.Duration // since the last step
		renewed Level         // this level and all below
	}{
		{2 * time.Hour, LevelLeaf + 1}, // none
		{31 * time.Minute, LevelLeaf},
		{day, LevelInstance},
		{7 * day, LevelZonal},
		{30 * day, LevelRegional},
		{365 * day, LevelRegional},
		{-180 * day, LevelRegional}, // the clock may go back, too
	} {
		now = now.Add(tt.after)
		chain, err := n.Chain()
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(parse(t, chain), n.Root(), now); err != nil {
			t.Errorf("%v later: %v", tt.after, err)
		}
		for level := LevelRoot; level <= LevelLeaf; level++ {
			a, b := before.Certificate, chain.Certificate
			if level < LevelLeaf {
				a, b = before.CABundle[level], chain.CABundle[level]
			}
			if renewed := string(a) != string(b); renewed != (level >= tt.renewed) {
				t.Errorf("%v later: %s renewed: %t", tt.after, level, renewed)
			}
		}
		before = chain
	}
}

func TestSharedPKI(t *testing.T) {
	pki, err := NewPKI(PKIOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var bundles [][][]byte
	for _, instance := range []string{"i-1", "i-2"} {
		n := newNSM(t, Options{PKI: pki, InstanceID: instance})
		chain, err := n.Chain()
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(parse(t, chain), pki.Root(), time.Now()); err != nil {
			t.Error(err)
		}
		bundles = append(bundles, chain.CABundle)
	}
	for level, der := range bundles[0] {
		if same := string(der) == string(bundles[1][level]); same != (Level(level) < LevelInstance) {
			t.Errorf("%s the same: %t", Level(level), same)
		}
	}
	other := newNSM(t, Options{})
	chain, err := other.Chain()
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(parse(t, chain), pki.Root(), time.Now()); err == nil {
		t.Error("another PKI's chain verifies")
	}
}

func TestEditCertificate(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var seen []Level
	pki, err := NewPKI(PKIOptions{
		Clock: func() time.Time { return now },
		EditCertificate: func(level Level, c *x509.Certificate) {
			seen = append(seen, level)
			switch level {
			case LevelZonal:
				c.MaxPathLen, c.MaxPathLenZero = 0, true
			case LevelLeaf:
				c.IsCA = true
				c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDecipherOnly
				c.NotAfter = now.Add(-time.Hour) // expired already
				c.NotBefore = now.Add(-2 * time.Hour)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := newNSM(t, Options{PKI: pki})
	for range 2 { // an edited validity does not renew the certificate each time
		chain, err := n.Chain()
		if err != nil {
			t.Fatal(err)
		}
		certificates := parse(t, chain)
		leaf := certificates[4]
		if !leaf.IsCA || leaf.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageDecipherOnly || !leaf.NotAfter.Equal(now.Add(-time.Hour)) || certificates[2].MaxPathLen != 0 {
			t.Errorf("%+v", leaf)
		}
		if err := verify(certificates, pki.Root(), now); err == nil {
			t.Error("the chain verifies")
		}
	}
	if want := []Level{LevelRoot, LevelRegional, LevelZonal, LevelInstance, LevelLeaf}; !slices.Equal(seen, want) {
		t.Errorf("hook called for %v, want %v", seen, want)
	}
}

func TestImpossibleCertificate(t *testing.T) {
	pki, err := NewPKI(PKIOptions{EditCertificate: func(level Level, c *x509.Certificate) {
		if level == LevelLeaf {
			c.SerialNumber = nil
			c.NotAfter = c.NotBefore.Add(-time.Hour)
			c.SignatureAlgorithm = x509.PureEd25519
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = nsm.NewSession(newNSM(t, Options{PKI: pki})).Attest(t.Context(), nsm.AttestationRequest{})
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonCertificate {
		t.Errorf("%v", err)
	}
	if _, err := NewPKI(PKIOptions{GenerateKey: func(Level) (crypto.Signer, error) { return nil, errors.New("none") }}); !errors.As(err, &e) || e.Reason != ReasonCertificate {
		t.Errorf("%v", err)
	}
}

func TestGenerateKey(t *testing.T) {
	for name, tt := range map[string]struct {
		level    Level
		generate func() (crypto.Signer, error)
		signs    bool
	}{
		"P-256 leaf":     {LevelLeaf, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }, true},
		"P-521 leaf":     {LevelLeaf, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P521(), rand.Reader) }, true},
		"Ed25519 leaf":   {LevelLeaf, func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err }, false},
		"P-256 instance": {LevelInstance, func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }, true},
		"Ed25519 zonal":  {LevelZonal, func() (crypto.Signer, error) { _, key, err := ed25519.GenerateKey(rand.Reader); return key, err }, true},
	} {
		t.Run(name, func(t *testing.T) {
			pki, err := NewPKI(PKIOptions{GenerateKey: func(level Level) (crypto.Signer, error) {
				if level == tt.level {
					return tt.generate()
				}
				return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			}})
			if err != nil {
				t.Fatal(err)
			}
			n := newNSM(t, Options{PKI: pki})
			chain, err := n.Chain()
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(parse(t, chain), pki.Root(), time.Now()); err != nil {
				t.Error(err)
			}
			_, err = n.SignPayload([]byte("payload"))
			var e *Error
			if tt.signs != (err == nil) || !tt.signs && (!errors.As(err, &e) || e.Reason != ReasonSignature) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Neither what a hook keeps nor what Root and Chain hand out is the PKI's own.
func TestPKIHandsOutCopies(t *testing.T) {
	flip := func(b []byte) {
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
	}
	var kept []*x509.Certificate
	pki, err := NewPKI(PKIOptions{EditCertificate: func(_ Level, template *x509.Certificate) {
		kept = append(kept, template)
	}})
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.ParseCertificate(slices.Clone(pki.Root().Raw))
	if err != nil {
		t.Fatal(err)
	}
	flip(pki.Root().Raw)
	n := newNSM(t, Options{PKI: pki})
	for range 3 {
		for _, template := range kept {
			flip(template.RawSubject)
			flip(template.SubjectKeyId)
		}
		kept = nil
		chain, err := n.Chain()
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(parse(t, chain), want, time.Now()); err != nil {
			t.Error(err)
		}
		for _, der := range append(chain.CABundle, chain.Certificate) {
			flip(der)
		}
	}
}
