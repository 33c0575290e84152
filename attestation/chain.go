package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"time"
)

// verifyChain walks from the pinned root down the CA bundle to the target
// certificate and returns the certificates from the target up.
//
// The bundle is ordered [ROOT, INTERM_1 … INTERM_N], so the path is given and
// nothing has to be searched: crypto/x509's own path building would accept
// bundles in any order, with leftovers, and spend up to a hundred signature
// checks on a hostile one. This walk checks each signature once.
func (v *Verifier) verifyChain(p *payload, now, start time.Time) ([]*x509.Certificate, error) {
	root := v.trusted(p.cabundle[0])
	if root == nil {
		return nil, fail(ReasonUntrustedRoot, bundleField(0), "is no root that this verifier trusts%s", subjectHint(p.cabundle[0]))
	}

	// ders is the whole path in order of issue: root first, target last.
	ders := append(p.cabundle[:len(p.cabundle):len(p.cabundle)], p.certificate)
	for i := range ders {
		for j := range i {
			if bytes.Equal(ders[i], ders[j]) {
				return nil, fail(ReasonCABundle, pathField(i, len(ders)), "is the same certificate as %s", pathField(j, len(ders)))
			}
		}
	}

	// Everything that costs little comes before the first signature.
	path := make([]*x509.Certificate, len(ders))
	path[0] = root
	for i := range path {
		field := pathField(i, len(path))
		if i > 0 {
			c, err := x509.ParseCertificate(ders[i])
			if err != nil {
				return nil, &Error{Reason: ReasonCertificateMalformed, Field: field, Err: err}
			}
			path[i] = c
			// The links come first: in a misordered bundle every certificate
			// is sound, only out of place.
			if err := checkLink(path[i-1], path[i], field); err != nil {
				return nil, err
			}
		}
		if err := checkCertificate(path[i], field, i, len(path)); err != nil {
			return nil, err
		}
		if err := checkValidity(path[i], field, now, start); err != nil {
			return nil, err
		}
	}
	for i := 1; i < len(path); i++ {
		if err := path[i-1].CheckSignature(path[i].SignatureAlgorithm, path[i].RawTBSCertificate, path[i].Signature); err != nil {
			return nil, &Error{Reason: ReasonCertificateSignature, Field: pathField(i, len(path)), Detail: "isn't signed by the certificate above it", Err: err}
		}
	}

	chain := make([]*x509.Certificate, len(path))
	for i, c := range path {
		chain[len(path)-1-i] = c
	}
	return chain, nil
}

// trusted returns the root whose DER this is, or nil.
func (v *Verifier) trusted(der []byte) *x509.Certificate {
	for _, root := range v.roots {
		if bytes.Equal(root.Raw, der) {
			return root
		}
	}
	return nil
}

// pathField names the i-th certificate of a path of n, root first.
func pathField(i, n int) string {
	if i == n-1 {
		return fieldCertificate
	}
	return bundleField(i)
}

// subjectHint tells the usual case, a document of another partition or of a
// test, from garbage.
func subjectHint(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return ""
	}
	return ": its subject is " + shortText(c.Subject.CommonName) + "; add a root of another AWS partition or of a test to Policy.Roots"
}

var (
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
)

// checkCertificate checks what a certificate must be by itself to stand at
// place i of a path of n, root first (rules 22 to 25 of AWS's text, and what
// crypto/x509 leaves open).
func checkCertificate(c *x509.Certificate, field string, i, n int) error {
	if c.Version != 3 {
		return fail(ReasonCertificateMalformed, field, "is X.509 version %d, not 3", c.Version)
	}
	if !isP384(c) {
		return fail(ReasonCertificateAlgorithm, field, "its key is %v, not ECDSA on P-384", c.PublicKeyAlgorithm)
	}
	if c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return fail(ReasonCertificateAlgorithm, field, "is signed with %v, not ECDSA with SHA-384", c.SignatureAlgorithm)
	}
	basicConstraintsCritical := false
	for _, ext := range c.Extensions {
		switch {
		case ext.Id.Equal(oidBasicConstraints):
			basicConstraintsCritical = ext.Critical
		case ext.Id.Equal(oidKeyUsage):
		case ext.Critical:
			// Go's parser calls some of these handled (name constraints), but
			// this walk doesn't apply them.
			return fail(ReasonCertificateExtension, field, "has the critical extension %v, which isn't understood", ext.Id)
		}
	}

	if i == n-1 {
		switch {
		case !c.BasicConstraintsValid || c.IsCA:
			return fail(ReasonCertificateUsage, field, "must have basic constraints that say it is no CA")
		case c.MaxPathLen > 0 || c.MaxPathLenZero:
			return fail(ReasonCertificateUsage, field, "has a path length, which only a CA may have")
		case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
			return fail(ReasonCertificateUsage, field, "its key usage doesn't allow digital signatures")
		}
		return nil
	}
	below := n - 2 - i // CA certificates between this one and the target
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || !basicConstraintsCritical:
		return fail(ReasonCertificateUsage, field, "must have critical basic constraints that say it is a CA")
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fail(ReasonCertificateUsage, field, "its key usage doesn't allow signing certificates")
	case (c.MaxPathLen > 0 || c.MaxPathLenZero) && below > c.MaxPathLen:
		return fail(ReasonCertificateUsage, field, "allows %d CA certificates below it; there are %d", c.MaxPathLen, below)
	}
	return nil
}

func isP384(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	return ok && key.Curve == elliptic.P384()
}

// checkValidity checks that now is within the certificate's life. start is now
// plus the clock skew that is allowed: AWS issues the target certificate in
// the very second of the first document it signs, so that without it a clock
// slightly behind would refuse the freshest documents.
func checkValidity(c *x509.Certificate, field string, now, start time.Time) error {
	if now.After(c.NotAfter) {
		return fail(ReasonCertificateExpired, field, "expired at %s, %v before %s; check the clock, or give Expect.At for a document of the past",
			stamp(c.NotAfter), now.Sub(c.NotAfter).Round(time.Second), stamp(now))
	}
	if start.Before(c.NotBefore) {
		return fail(ReasonCertificateNotYetValid, field, "is valid from %s, %v after %s; check the clock",
			stamp(c.NotBefore), c.NotBefore.Sub(now).Round(time.Second), stamp(now))
	}
	return nil
}

// checkLink checks that parent is who child says issued it. The signature
// alone would prove that; the names keep a misordered bundle from being
// reported as a forged one, and RFC 5280 section 6.1.3 demands it.
func checkLink(parent, child *x509.Certificate, field string) error {
	if !bytes.Equal(child.RawIssuer, parent.RawSubject) {
		return fail(ReasonCertificateIssuer, field, "names as issuer %s, but above it in the bundle stands %s",
			shortText(child.Issuer.CommonName), shortText(parent.Subject.CommonName))
	}
	if len(child.AuthorityKeyId) > 0 && len(parent.SubjectKeyId) > 0 && !bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId) {
		return fail(ReasonCertificateIssuer, field, "names an issuing key that isn't the key of the certificate above it")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
