//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
)

// documents has the verifier refuse what QEMU's NSM gives, which nobody signed:
// as it is, and with one fault after the other mended as a forger would.
func (g *guest) documents() {
	g.check("attestation/unsigned-refused", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		verifier, err := attestation.NewVerifier(attestation.Policy{UnsafeAnyMeasurement: true, UnsafeAllowDebug: true})
		if err != nil {
			return "", err
		}
		nonce := pattern(32)
		raw, err := s.Attest(ctx, nsm.AttestationRequest{Nonce: nonce})
		if err != nil {
			return "", err
		}
		var parts []any
		if err := cbor.Unmarshal(raw, &parts); err != nil || len(parts) != 4 {
			return "", fmt.Errorf("not a COSE_Sign1: %x, %w", raw, err)
		}
		payload := parts[2].([]byte)
		sign1 := func(algorithm string, signature []byte) []byte {
			return join([]byte{0x84}, blob([]byte(algorithm)), []byte{0xa0}, blob(payload), blob(signature))
		}
		const es384 = "\xa1\x01\x38\x22"
		var seen []attestation.Reason
		for _, tt := range []struct {
			document []byte
			want     attestation.Reason
		}{
			{raw, attestation.ReasonAlgorithm},
			{sign1(es384, make([]byte, 64)), attestation.ReasonSignatureSize},
			{sign1(es384, make([]byte, 96)), attestation.ReasonUntrustedRoot},
		} {
			doc, err := verifier.Verify(tt.document, attestation.Expect{Nonce: nonce})
			var e *attestation.Error
			if !errors.As(err, &e) || e.Reason != tt.want || doc != nil {
				return "", fmt.Errorf("%v, want reason %q", err, tt.want)
			}
			seen = append(seen, e.Reason)
		}
		return fmt.Sprintf("reason %s; with the header mended %s; with a signature of the right size %s", seen[0], seen[1], seen[2]), nil
	}))

	g.check("attestation/re-signed", func(ctx context.Context) (string, error) {
		if g.world == nil {
			return "", skipped("the host has no vsock here, to sign in place of AWS")
		}
		s, err := g.signedSession()
		if err != nil {
			return "", err
		}
		defer s.Close()
		nonce := pattern(32)
		raw, err := s.Attest(ctx, nsm.AttestationRequest{Nonce: nonce, UserData: []byte("e2e")})
		if err != nil {
			return "", err
		}
		root, err := g.attestationRoot()
		if err != nil {
			return "", err
		}
		measured, err := measurement(ctx, s)
		if err != nil {
			return "", err
		}
		trusting, err := attestation.NewVerifier(attestation.Policy{Measurements: []attestation.Measurement{measured}, Roots: root})
		if g.machine == machinePC {
			// This machine measures nothing: PCRs 0 to 2 are zero, as in debug
			// mode.
			trusting, err = attestation.NewVerifier(attestation.Policy{UnsafeAnyMeasurement: true, UnsafeAllowDebug: true, Roots: root})
		}
		if err != nil {
			return "", err
		}
		doc, err := trusting.Verify(raw, attestation.Expect{Nonce: nonce})
		if err != nil {
			return "", err
		}
		if !bytes.Equal(doc.UserData, []byte("e2e")) {
			return "", fmt.Errorf("user data %q", doc.UserData)
		}
		for index, want := range measured.PCRs {
			if doc.PCRs[index] != want {
				return "", fmt.Errorf("PCR%d is %s in the document and %s in the NSM", index, doc.PCRs[index], want)
			}
		}
		aws, err := attestation.NewVerifier(attestation.Policy{UnsafeAnyMeasurement: true, UnsafeAllowDebug: true})
		if err != nil {
			return "", err
		}
		_, err = aws.Verify(raw, attestation.Expect{Nonce: nonce})
		var e *attestation.Error
		if !errors.As(err, &e) || e.Reason != attestation.ReasonUntrustedRoot {
			return "", fmt.Errorf("a verifier with AWS's root: %w", err)
		}
		production, err := attestation.NewVerifier(attestation.Policy{UnsafeAnyMeasurement: true, Roots: root})
		if err != nil {
			return "", err
		}
		_, err = production.Verify(raw, attestation.Expect{Nonce: nonce})
		if g.machine == machinePC && (!errors.As(err, &e) || e.Reason != attestation.ReasonDebugMode) {
			return "", fmt.Errorf("PCRs of zero without UnsafeAllowDebug: %w", err)
		}
		if g.machine == machineNitro && err != nil {
			return "", err
		}
		return "the device's fields under the test's root: accepted with that root, and refused with AWS's", nil
	})
}

// measurement is the NSM's own PCRs 0 to 2, as far as they are not zero.
func measurement(ctx context.Context, s *nsm.Session) (attestation.Measurement, error) {
	m := attestation.Measurement{Name: "this image", PCRs: map[int]attestation.PCR{}}
	for index := range 3 {
		pcr, err := s.DescribePCR(ctx, index)
		if err != nil {
			return m, err
		}
		m.PCRs[index] = pcr.Value
	}
	return m, nil
}
