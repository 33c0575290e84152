package kmsclient

import (
	"crypto/x509"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// amazonRoots returns the roots of Amazon Trust Services, out of the bundle
// that the Go project makes from Mozilla's. All else is left out: an enclave
// image needs no CA file, and no CA outside of Amazon can vouch for a KMS.
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

// ofAmazon tells the roots that https://www.amazontrust.com/repository lists.
// Starfield Services is one that Amazon bought; the other Starfield roots are
// GoDaddy's.
func ofAmazon(root *x509.Certificate) bool {
	return slices.Equal(root.Subject.Organization, []string{"Amazon"}) ||
		slices.Equal(root.Subject.Organization, []string{"Starfield Technologies, Inc."}) &&
			strings.HasPrefix(root.Subject.CommonName, "Starfield Services ")
}
