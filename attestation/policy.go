package attestation

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Policy says which documents a [Verifier] accepts. [NewVerifier] refuses its zero
// value: set Measurements.
type Policy struct {
	// Measurements lists the accepted measurements; any one may match.
	Measurements []Measurement
	// UnsafeAnyMeasurement accepts every enclave of every AWS customer. It is
	// for tools that look at documents and for callers that judge the PCRs
	// themselves. It excludes Measurements.
	UnsafeAnyMeasurement bool
	// UnsafeAllowDebug accepts enclaves that run in debug mode. Their PCR0, PCR1
	// and PCR2 are zero, so any image passes, and the parent reads their console.
	UnsafeAllowDebug bool
	// Platform must have made the document; the default is PlatformEnclave.
	Platform Platform
	// MaxAge bounds the document's age; zero means DefaultMaxAge. More than three
	// hours has no effect, since the NSM's certificate expires then.
	MaxAge time.Duration
	// MaxSkew is how far the verifier's clock may be behind AWS's, at most one
	// hour; zero means DefaultMaxSkew. It does not extend any expiry.
	MaxSkew time.Duration
	// Roots lists the root certificates to trust; nil means AWSNitroRoot alone.
	// Other partitions (China, isolated) and nsmtest have their own roots. Each
	// must be a self-signed P-384 CA certificate. NewVerifier copies their Raw.
	Roots []*x509.Certificate
	// Revoked is called for each certificate below the root after its signature
	// verifies, on every call of Verify; true rejects the document. Identify a
	// certificate by its RawIssuer and SerialNumber. AWS's rules use no
	// revocation list; this is for one of your own. It must be safe for concurrent
	// use and must not change the certificate. Nil revokes none.
	Revoked func(certificate *x509.Certificate) bool
	// DisableCache verifies every certificate's signature on every call. The cache
	// changes no verdict. It saves 4 of 5 signature verifications for a document
	// of a known enclave.
	DisableCache bool
	// Clock returns the time and is read on every call of Verify; nil means
	// time.Now. It must be safe for concurrent use.
	Clock func() time.Time
}

// tpmCommandLine is the NitroTPM's PCR of the kernel command line, which is
// zero where the boot manager's image has a command line of its own.
const tpmCommandLine = 12

// validate reports what cannot be meant, since a policy that silently accepts
// too much is discovered by attackers first.
func (p *Policy) validate() error {
	invalid := func(field, format string, args ...any) error {
		return fail(ReasonInvalidPolicy, field, format, args...)
	}
	switch {
	case p.Platform.ImagePCRs() == nil:
		return invalid("Platform", "%d is no platform", int(p.Platform))
	case len(p.Measurements) == 0 && !p.UnsafeAnyMeasurement:
		return invalid("Measurements", "is empty, which would accept any enclave; give the PCRs that nitro-cli build-enclave printed, or set UnsafeAnyMeasurement")
	case len(p.Measurements) > 0 && p.UnsafeAnyMeasurement:
		return invalid("UnsafeAnyMeasurement", "is set beside Measurements; choose one")
	case p.MaxAge < 0:
		return invalid("MaxAge", "is negative: %v", p.MaxAge)
	case p.MaxSkew < 0 || p.MaxSkew > maxMaxSkew:
		return invalid("MaxSkew", "is %v, not 0 to %v; set the clock instead", p.MaxSkew, maxMaxSkew)
	case p.Roots != nil && len(p.Roots) == 0:
		return invalid("Roots", "is empty but not nil: nothing would be trusted; nil means the AWS Nitro root")
	}
	for i, root := range p.Roots {
		field := fmt.Sprintf("Roots[%d]", i)
		if root == nil || len(root.Raw) == 0 {
			return invalid(field, "is no parsed certificate")
		}
		if _, err := parseRoot(root.Raw); err != nil {
			return &Error{Reason: ReasonInvalidPolicy, Field: field, Detail: "cannot be a root", Err: err}
		}
	}
	for i, m := range p.Measurements {
		field := fmt.Sprintf("Measurements[%d]", i)
		if m.Name != "" {
			field += " (" + m.shownName() + ")"
		}
		if len(m.PCRs) == 0 {
			return invalid(field, "has no PCRs, which every enclave would match")
		}
		for index := range m.PCRs {
			if index < 0 || index >= MaxPCRs {
				return invalid(field, "PCR%d does not exist; the indices are 0 to %d", index, MaxPCRs-1)
			}
		}
		if err := p.validatePins(m, field); err != nil {
			return err
		}
	}
	return nil
}

// validatePins refuses a measurement that lacks what identifies an image, or
// has a zero where a forgotten value would put one: most enclaves have zeros in
// most PCRs, so that a zero accepts nearly everyone's.
func (p *Policy) validatePins(m Measurement, field string) error {
	pins := p.Platform.ImagePCRs()
	// PCR1 of an enclave, kernel and first ram disk, is nitro-cli's own and
	// shared by most; a NitroTPM's PCR7 and 12 are not of one image either.
	identifies := map[Platform][]int{PlatformEnclave: {PCRImage, PCRApplication}, PlatformNitroTPM: {4}}[p.Platform]
	anchored := false // some PCR that identifies an image is pinned
	for _, index := range pins {
		value, ok := m.PCRs[index]
		switch {
		case !ok && !m.UnsafePartial:
			return fail(ReasonInvalidPolicy, field, "lacks PCR%d; pin PCR%v together, or set UnsafePartial", index, pins)
		case ok && !value.IsZero():
			anchored = anchored || slices.Contains(identifies, index)
		case ok && p.Platform == PlatformEnclave && !p.UnsafeAllowDebug:
			return fail(ReasonInvalidPolicy, field, "PCR%d is all zero, as in an enclave in debug mode; build-enclave prints the real value, or set UnsafeAllowDebug", index)
		case ok && p.Platform == PlatformNitroTPM && index != tpmCommandLine:
			return fail(ReasonInvalidPolicy, field, "PCR%d is all zero, which no booted instance has", index)
		case ok && p.Platform == PlatformEnclave:
			anchored = true // debug mode is allowed, and asked for
		}
	}
	if anchored {
		return nil
	}
	for _, index := range sortedIndices(m.PCRs) {
		if m.PCRs[index].IsZero() {
			return fail(ReasonInvalidPolicy, field, "PCR%d is all zero, as it is in most enclaves: beside a zero, pin one of PCR%v", index, identifies)
		}
	}
	return nil
}
