package attestation

import (
	"bytes"
	"crypto/x509"
	_ "embed"
	"fmt"
	"time"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// awsNitroRoot is the certificate that AWS publishes as AWS_NitroEnclaves_Root-G1.
//
//go:embed roots/aws-nitro-enclaves-g1.der
var awsNitroRoot []byte

// AWSNitroRootSHA256 is the SHA-256 of the AWS Nitro root certificate's DER in
// hexadecimal, for comparison with other sources.
const AWSNitroRootSHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

// AWSNitroRoot returns the root of AWS's commercial partition for Nitro Enclaves and
// NitroTPMs: CN=aws.nitro-enclaves, P-384, valid from 2019-10-28 to 2049-10-28. A
// [Policy] without Roots trusts it alone; list it to trust another root beside it.
// Each call returns a new value.
func AWSNitroRoot() *x509.Certificate {
	root, err := x509.ParseCertificate(awsNitroRoot)
	if err != nil {
		// The bytes are compiled in and a test parses them.
		panic(fmt.Sprintf("attestation: the embedded AWS Nitro root: %v", err))
	}
	return root
}

// verifyChain walks from the pinned root down the CA bundle to the target
// certificate and returns the path, root first. It also returns what the cache
// may remember of it once the document is verified.
//
// The bundle is ordered [ROOT, INTERM_1 … INTERM_N], so the path is given and
// nothing has to be searched: crypto/x509's own path building would accept
// bundles in any order, with leftovers, and spend up to a hundred signature
// checks on a hostile one. This walk checks each signature once.
func (v *Verifier) verifyChain(p *payload, now, start time.Time) ([]*x509.Certificate, []cacheEntry, error) {
	root, ok := v.trusted(p.cabundle[0])
	if !ok {
		return nil, nil, fail(ReasonUntrustedRoot, bundleField(0), "is no root that this verifier trusts%s", subjectHint(p.cabundle[0]))
	}

	ders := p.path()
	for i := range ders {
		for j := range i {
			if bytes.Equal(ders[i], ders[j]) {
				return nil, nil, fail(ReasonCABundle, pathField(i, len(ders)), "is the same certificate as %s", pathField(j, len(ders)))
			}
		}
	}

	// Everything that costs little comes before the first signature, and
	// happens on every call: the cache spares parsing and signatures only.
	path := make([]*x509.Certificate, len(ders))
	path[0] = root.certificate
	known := 1 // how many certificates of the path need no verification
	key := root.key
	var fresh []cacheEntry
	for i := 1; i < len(path); i++ {
		key = key.below(ders[i])
		if c := v.cache.lookup(key); c != nil {
			path[i] = c
			known = i + 1 // its key vouches for all above it
		} else {
			c, err := parseCertificate(ders[i])
			if err != nil {
				return nil, nil, in(pathField(i, len(path)), err)
			}
			path[i] = c
			if v.cache != nil {
				fresh = append(fresh, cacheEntry{key, c})
			}
		}
		if err := checkLink(path[i-1], path[i]); err != nil {
			return nil, nil, in(pathField(i, len(path)), err)
		}
	}
	// After all the links: in a misordered bundle, or one with a certificate
	// too many, each is sound by itself, only out of place.
	for i, c := range path {
		if err := checkCertificate(c, i, len(path)); err != nil {
			return nil, nil, in(pathField(i, len(path)), err)
		}
		if err := checkValidity(c, now, start); err != nil {
			return nil, nil, in(pathField(i, len(path)), err)
		}
	}
	for i := known; i < len(path); i++ {
		v.signatures.Add(1)
		if err := checkSignature(path[i-1], path[i]); err != nil {
			return nil, nil, &Error{Reason: ReasonCertificateSignature, Field: pathField(i, len(path)), Detail: "is not signed by the certificate above it", Err: err}
		}
	}
	// Only of certificates that an authority issued: what a forger writes is
	// nobody's to revoke.
	if v.policy.Revoked != nil {
		for i, c := range path[1:] {
			if v.policy.Revoked(c) {
				return nil, nil, fail(ReasonCertificateRevoked, pathField(i+1, len(path)), "serial number %x of %s is revoked", c.SerialNumber, errtext.Quote(c.Issuer.CommonName))
			}
		}
	}
	return path, fresh, nil
}

// path is the whole path in order of issue: root first, target last.
func (p *payload) path() [][]byte {
	return append(p.cabundle[:len(p.cabundle):len(p.cabundle)], p.certificate)
}

// trustedRoot is a root certificate and its place in the cache's keys.
type trustedRoot struct {
	certificate *x509.Certificate
	key         cacheKey
}

// trusted returns the root whose DER this is.
func (v *Verifier) trusted(der []byte) (trustedRoot, bool) {
	for _, root := range v.roots {
		if bytes.Equal(root.certificate.Raw, der) {
			return root, true
		}
	}
	return trustedRoot{}, false
}

// pathField names the i-th certificate of a path of n, root first.
func pathField(i, n int) string {
	if i == n-1 {
		return fieldCertificate
	}
	return bundleField(i)
}

// subjectHint tells the usual case, a document of another partition or of a
// test, from a forgery. The name is the sender's to choose.
func subjectHint(der []byte) string {
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return ""
	case c.Subject.CommonName == awsCommonName:
		return ": it bears AWS's name but is not AWS's root; it is forged, or a test's that is not in Policy.Roots"
	}
	return ": it calls itself " + errtext.Quote(c.Subject.CommonName) + "; if that is a partition of AWS, its root must be in Policy.Roots"
}

// awsCommonName is the subject's common name in the root of AWS's commercial
// partition. Others' are <partition>.nitro-enclaves.
const awsCommonName = "aws.nitro-enclaves"
