package channel

import (
	"crypto/x509"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// roots returns a copy of rootCAs, so that what is added to it later does not count, or
// the roots of Amazon if it is nil.
func roots(rootCAs *x509.CertPool) *x509.CertPool {
	if rootCAs == nil {
		return amazonRoots()
	}
	return rootCAs.Clone()
}

// amazonRoots returns the roots of Amazon Trust Services, from the bundle that the Go
// project makes of Mozilla's. All others are left out: an enclave image needs no CA
// file, and no CA outside of Amazon vouches for a KMS.
func amazonRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		if err != nil || !ofAmazon(certificate) {
			continue
		}
		if root.Constraint != nil {
			pool.AddCertWithConstraint(certificate, root.Constraint)
		} else {
			pool.AddCert(certificate)
		}
	}
	return pool
}

// ofAmazon reports whether https://www.amazontrust.com/repository lists the root.
// Amazon bought Starfield Services; the other Starfield roots are GoDaddy's.
func ofAmazon(root *x509.Certificate) bool {
	return slices.Equal(root.Subject.Organization, []string{"Amazon"}) ||
		slices.Equal(root.Subject.Organization, []string{"Starfield Technologies, Inc."}) &&
			strings.HasPrefix(root.Subject.CommonName, "Starfield Services ")
}
