package main

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

const nsmDevice = "/dev/nsm"

// realEnclave is the run inside a real enclave, against real KMS.
type realEnclave struct {
	device, proxy, region, keyID, ciphertext string
}

// roots are the roots that a run in a real enclave trusts. The zero value means AWS's Nitro
// root and Amazon's authorities.
type roots struct {
	attestation []*x509.Certificate
	kms         *x509.CertPool
}

func (e *realEnclave) wanted() bool { return *e != realEnclave{} }

func (e *realEnclave) check() error {
	switch {
	case e.device != nsmDevice:
		return fmt.Errorf("-device %q: a real enclave's NSM is %s", e.device, nsmDevice)
	case e.proxy == "" || e.region == "" || e.keyID == "" || e.ciphertext == "":
		return errors.New("a real enclave needs all of -proxy, -region, -key-id and -ciphertext")
	}
	if _, err := vsockproxy.ParseEndpoint(e.proxy); err != nil {
		return fmt.Errorf("-proxy: %w", err)
	}
	if _, err := base64.StdEncoding.DecodeString(e.ciphertext); err != nil {
		return fmt.Errorf("-ciphertext: %w", err)
	}
	return nil
}

func (e *realEnclave) release(ctx context.Context, r *report) error {
	proxy, err := vsockproxy.ParseEndpoint(e.proxy)
	if err != nil {
		return err
	}
	ciphertext, err := base64.StdEncoding.DecodeString(e.ciphertext)
	if err != nil {
		return err
	}
	session, roots, err := openEnclave(ctx, r)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := showMeasurement(ctx, r, session); err != nil {
		return err
	}

	// A real relying party is elsewhere and has the PCRs from the build. Here the enclave
	// only shows that it would pass.
	pcrs, err := ownPCRs(ctx, session)
	if err != nil {
		return err
	}
	trust := attestation.Policy{Measurements: []attestation.Measurement{{Name: "itself", PCRs: pcrs}}, Roots: roots.attestation}
	if pcrs[0].IsZero() {
		// NewVerifier refuses to expect zero PCRs. Verify then refuses debug mode.
		trust = attestation.Policy{UnsafeAnyMeasurement: true, Roots: roots.attestation}
	}
	if err := relyingParty(ctx, r, session, trust, attack{}); err != nil {
		return err
	}
	if len(r.Refusals) > 0 {
		return nil // no relying party would go on
	}

	config, err := kmsclient.LoadConfig(ctx, kmsclient.ConfigOptions{Region: e.region})
	if err != nil {
		return err
	}
	_, err = release(ctx, r, session, releaseRequest{
		config:     config,
		proxy:      proxy,
		keyID:      e.keyID,
		ciphertext: ciphertext,
		roots:      roots.kms,
	})
	return err
}
