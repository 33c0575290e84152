package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"time"

	"github.com/keyvouch/keyvouch/attestation/internal/strictder"
	"github.com/keyvouch/keyvouch/internal/errtext"
)

// parseCertificate parses a certificate that keeps no reference to der.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		return nil, &Error{Reason: ReasonCertificateMalformed, Err: err}
	}
	if part := strictder.Loose(c); part != "" {
		return nil, fail(ReasonCertificateMalformed, "", "its %s has elements or bytes that do not belong there", part)
	}
	return c, nil
}

// parseRoot parses a root certificate and checks that it can be one.
func parseRoot(der []byte) (*x509.Certificate, error) {
	root, err := parseCertificate(der)
	if err != nil {
		return nil, err
	}
	// As the first of the shortest path, a root and a target.
	if err := checkCertificate(root, 0, 2); err != nil {
		return nil, err
	}
	if err := checkLink(root, root); err != nil {
		return nil, err
	}
	if err := checkSignature(root, root); err != nil {
		return nil, &Error{Reason: ReasonCertificateSignature, Detail: "is not signed by itself", Err: err}
	}
	return root, nil
}

// checkCertificate checks what a certificate must be by itself to stand at
// place i of a path of n, root first (rules 22 to 25 of AWS's text, and what
// crypto/x509 leaves open).
func checkCertificate(c *x509.Certificate, i, n int) error {
	if c.Version != 3 {
		return fail(ReasonCertificateMalformed, "", "is X.509 version %d, not 3", c.Version)
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() {
		return fail(ReasonCertificateAlgorithm, "", "its key is %s, not ECDSA on P-384", keyName(c))
	}
	if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return fail(ReasonCertificateAlgorithm, "", "is signed with %v, not ECDSA with SHA-384", c.SignatureAlgorithm)
	}
	basicConstraintsCritical := false
	for _, ext := range c.Extensions {
		switch {
		case ext.Id.Equal(strictder.OIDBasicConstraints):
			basicConstraintsCritical = ext.Critical
		case ext.Id.Equal(strictder.OIDKeyUsage):
		case ext.Critical:
			// Go's parser calls some of these handled (name constraints), but
			// this walk does not apply them.
			return fail(ReasonCertificateExtension, "", "has the critical extension %v, which is not understood", ext.Id)
		}
	}

	if i == n-1 {
		switch {
		case !c.BasicConstraintsValid || c.IsCA:
			return fail(ReasonCertificateUsage, "", "must have basic constraints that say it is no CA")
		case c.MaxPathLen > 0 || c.MaxPathLenZero:
			return fail(ReasonCertificateUsage, "", "has a path length, which only a CA may have")
		case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
			return fail(ReasonCertificateUsage, "", "its key usage does not allow digital signatures")
		}
		return nil
	}
	below := n - 2 - i // CA certificates between this one and the target
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || !basicConstraintsCritical:
		return fail(ReasonCertificateUsage, "", "must have critical basic constraints that say it is a CA")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fail(ReasonCertificateUsage, "", "its key usage does not allow signing certificates")
	case (c.MaxPathLen > 0 || c.MaxPathLenZero) && below > c.MaxPathLen:
		return fail(ReasonCertificateUsage, "", "allows %d CA certificates below it; there are %d", c.MaxPathLen, below)
	}
	return nil
}

func keyName(c *x509.Certificate) string {
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); ok {
		return "ECDSA on " + key.Curve.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

// checkValidity checks that now is within the certificate's life. start is now
// plus the clock skew that is allowed: AWS issues the target certificate in
// the very second of the first document it signs, so that without it a clock
// slightly behind would refuse the freshest documents.
func checkValidity(c *x509.Certificate, now, start time.Time) error {
	if now.After(c.NotAfter) {
		return fail(ReasonCertificateExpired, "", "expired at %s, %v before %s; check the clock, or give Expect.At for a document of the past",
			stamp(c.NotAfter), now.Sub(c.NotAfter).Round(time.Second), stamp(now))
	}
	if start.Before(c.NotBefore) {
		return fail(ReasonCertificateNotYetValid, "", "is valid from %s, %v after %s; check the clock",
			stamp(c.NotBefore), c.NotBefore.Sub(now).Round(time.Second), stamp(now))
	}
	return nil
}

// checkLink checks that parent is who child says issued it. The signature
// alone would prove that; the names keep a misordered bundle from being
// reported as a forged one, and RFC 5280, section 6.1.3 demands it.
func checkLink(parent, child *x509.Certificate) error {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
		return fail(ReasonCertificateIssuer, "", "names as issuer %s, but above it in the bundle stands %s",
			errtext.Quote(child.Issuer.CommonName), errtext.Quote(parent.Subject.CommonName))
	}
	if len(child.AuthorityKeyId) > 0 && len(parent.SubjectKeyId) > 0 && !bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId) {
		return fail(ReasonCertificateIssuer, "", "names an issuing key that is not the key of the certificate above it")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
