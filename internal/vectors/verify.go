package vectors

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// Verify runs the vector once, with a new verifier. roots are the File's. An
// error that is no *attestation.Error means that the vector is at fault.
func (v *Vector) Verify(roots [][]byte) (*attestation.Document, error) {
	verifier, err := v.Verifier(roots)
	if err != nil {
		return nil, err
	}
	return verifier.Verify(v.Document, v.Expect.Expect())
}

// Verifier makes a verifier of the vector's policy and time.
func (v *Vector) Verifier(roots [][]byte) (*attestation.Verifier, error) {
	policy, err := v.Policy.build(roots)
	if err != nil {
		return nil, err
	}
	policy.Clock = func() time.Time { return v.Time }
	return attestation.NewVerifier(policy)
}

func (p *Policy) build(roots [][]byte) (attestation.Policy, error) {
	policy := attestation.Policy{
		UnsafeAnyMeasurement: p.UnsafeAnyMeasurement,
		UnsafeAllowDebug:     p.UnsafeAllowDebug,
		Platform:             platform(p.Platform),
		MaxAge:               time.Duration(p.MaxAgeMillis) * time.Millisecond,
		MaxSkew:              time.Duration(p.MaxSkewMillis) * time.Millisecond,
		Roots:                []*x509.Certificate{},
	}
	for _, m := range p.Measurements {
		pcrs := map[int]attestation.PCR{}
		for index, text := range m.PCRs {
			value, err := attestation.ParsePCR(text)
			if err != nil {
				return attestation.Policy{}, err
			}
			pcrs[index] = value
		}
		policy.Measurements = append(policy.Measurements, attestation.Measurement{Name: m.Name, PCRs: pcrs, UnsafePartial: m.UnsafePartial})
	}
	if p.Roots != nil {
		roots = p.Roots
	}
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return attestation.Policy{}, fmt.Errorf("a root of the vector: %w", err)
		}
		policy.Roots = append(policy.Roots, root)
	}
	if p.RevokedSerials != nil {
		policy.Revoked = func(c *x509.Certificate) bool {
			return slices.Contains(p.RevokedSerials, c.SerialNumber.Text(16))
		}
	}
	return policy, nil
}

// platform gives an invalid one for a name that none has.
func platform(name string) attestation.Platform {
	switch name {
	case "", attestation.PlatformEnclave.String():
		return attestation.PlatformEnclave
	case attestation.PlatformNitroTPM.String():
		return attestation.PlatformNitroTPM
	}
	return -1
}

// Expect gives the expectation in the form that Verify takes.
func (e Expect) Expect() attestation.Expect {
	return attestation.Expect{Nonce: e.Nonce, UnsafeAnyNonce: e.UnsafeAnyNonce, UserData: e.UserData, PublicKey: e.PublicKey, At: e.At}
}
