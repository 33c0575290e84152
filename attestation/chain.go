package attestation

import (
	"bytes"
	"crypto/x509"
	"time"
)

// verifyChain walks from the pinned root down the CA bundle to the target
// certificate and returns the path, root first. It also returns what the cache
// may remember of it once the document is verified.
//
// The bundle is ordered [ROOT, INTERM_1 … INTERM_N], so the path is given and
// nothing has to be searched: crypto/x509's own path building would accept
// bundles in any order, with leftovers, and spend up to a hundred signature
// checks on a hostile one. This walk checks each signature once.
func (v *Verifier) verifyChain(p *payload, now, start time.Time) ([]*x509.Certificate, []cacheEntry, error) {
	root := v.trusted(p.cabundle[0])
	if root == nil {
		return nil, nil, fail(ReasonUntrustedRoot, bundleField(0), "is no root that this verifier trusts%s", subjectHint(p.cabundle[0]))
	}

	// ders is the whole path in order of issue: root first, target last.
	ders := append(p.cabundle[:len(p.cabundle):len(p.cabundle)], p.certificate)
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
	path[0] = root
	known := 1 // how many certificates of the path the cache has vouched for
	key := rootKey(root)
	var fresh []cacheEntry
	for i := range path {
		if i > 0 {
			key = key.below(ders[i])
			if c := v.cache.lookup(key); c != nil {
				path[i] = c
				known++
			} else {
				c, err := parseCertificate(ders[i])
				if err != nil {
					return nil, nil, in(pathField(i, len(path)), err)
				}
				path[i] = c
				fresh = append(fresh, cacheEntry{key, c})
			}
		}
		if err := v.checkPlace(path, i, now, start); err != nil {
			return nil, nil, in(pathField(i, len(path)), err)
		}
	}
	for i := known; i < len(path); i++ {
		if err := v.checkSignature(path[i-1], path[i]); err != nil {
			return nil, nil, &Error{Reason: ReasonCertificateSignature, Field: pathField(i, len(path)), Detail: "isn't signed by the certificate above it", Err: err}
		}
	}
	return path, fresh, nil
}

// checkPlace checks all of the i-th certificate but its signature.
func (v *Verifier) checkPlace(path []*x509.Certificate, i int, now, start time.Time) error {
	// The links come first: in a misordered bundle every certificate is sound,
	// only out of place.
	if i > 0 {
		if err := checkLink(path[i-1], path[i]); err != nil {
			return err
		}
	}
	if err := checkCertificate(path[i], i, len(path)); err != nil {
		return err
	}
	if err := checkValidity(path[i], now, start); err != nil {
		return err
	}
	if i > 0 && v.policy.Revoked != nil && v.policy.Revoked(path[i]) {
		return fail(ReasonCertificateRevoked, "", "serial number %x of %s is revoked", path[i].SerialNumber, shortText(path[i].Issuer.CommonName))
	}
	return nil
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
