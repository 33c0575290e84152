//go:build keyvouch_e2e

package main

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
)

// openEnclave is for the machine of the end-to-end test on a real kernel. Nobody there has
// AWS's keys, so the host signs the documents and plays KMS. A program built without the
// tag keyvouch_e2e trusts nothing but AWS.
func openEnclave(ctx context.Context, r *report) (*nsm.Session, roots, error) {
	world, err := e2e.AskWorld(ctx)
	if err != nil {
		return nil, roots{}, err
	}
	root, err := x509.ParseCertificate(world.AttestationRoot)
	if err != nil {
		return nil, roots{}, err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(world.RootCAs) {
		return nil, roots{}, errors.New("the host's certificate for KMS's stand-in cannot be read")
	}
	device, err := e2e.OpenSigningDevice()
	if err != nil {
		return nil, roots{}, err
	}
	r.step("test", "signs the documents in AWS's place, and has a stand-in for KMS")
	return nsm.NewSession(device), roots{attestation: []*x509.Certificate{root}, kms: authorities}, nil
}
