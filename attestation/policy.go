package attestation

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Measurement is one set of PCR values that a policy accepts, typically one
// release of an enclave image. A document matches if it has every one of them.
type Measurement struct {
	// Name appears in Document.Checked and in errors, for example "v4.1".
	Name string
	// PCRs holds the expected values by index, 0 to 31. For an enclave 0, 1
	// and 2 must be there, together: PCR0 hashes kernel, command line and ram
	// disks as one string without boundaries, so that with PCR0 alone bytes can
	// move between the parts. The kernel's command line isn't safe from that even
	// with all three: see package eif. For a NitroTPM 4, 7 and 12 must be there.
	PCRs map[int]PCR
	// UnsafePartial allows a measurement that lacks some of these.
	UnsafePartial bool
}

// Policy says which documents a Verifier accepts. Its zero value accepts none
// and NewVerifier refuses it: set Measurements.
type Policy struct {
	// Measurements lists the accepted measurements; any one may match.
	Measurements []Measurement
	// UnsafeAnyMeasurement accepts every enclave of every AWS customer. It is
	// for tools that look at documents and for callers that judge the PCRs
	// themselves. It excludes Measurements.
	UnsafeAnyMeasurement bool
	// UnsafeAllowDebug accepts enclaves that run in debug mode. Their PCR0, 1
	// and 2 are zero whatever their image, so any image passes, and the parent
	// reads their console.
	UnsafeAllowDebug bool
	// Platform is what must have made the document, an enclave by default.
	Platform Platform
	// MaxAge bounds the document's age; zero means DefaultMaxAge. The NSM's
	// certificate lives three hours, so more than that has no effect.
	MaxAge time.Duration
	// MaxSkew is how far the verifier's clock may be behind the time stamps of
	// AWS, at most an hour; zero means DefaultMaxSkew. It doesn't prolong
	// anything's end.
	MaxSkew time.Duration
	// Roots lists the root certificates to trust; nil means AWSNitroRoot
	// alone. Other partitions (China, isolated) have roots of their own, and so
	// has nsmtest. Each must be a self-signed P-384 CA certificate. What counts
	// is the certificates' DER, at the time of NewVerifier.
	Roots []*x509.Certificate
	// Revoked, if set, is asked about every certificate below the root, on
	// every call of Verify that finds them rightly signed, and refuses the
	// document if it returns true. Know a certificate by its RawIssuer and
	// SerialNumber. AWS's text has verifiers do without revocation lists; this is
	// for one of your own. It must be safe for concurrent use and must not change
	// the certificate.
	Revoked func(certificate *x509.Certificate) bool
	// DisableCache verifies every certificate's signature anew, on every call.
	// The cache changes no verdict, only the time it takes: 1 signature
	// verification instead of 5 for a document of a known enclave.
	DisableCache bool
	// Clock tells the time, at every call of Verify; nil means time.Now. It must
	// be safe for concurrent use.
	Clock func() time.Time
}

// Expect is what the caller demands of one document. Its zero value is
// refused: give the Nonce, or say that any will do.
type Expect struct {
	// Nonce is the value the caller sent with its request for a document, at
	// most MaxFieldSize bytes. Make it from at least 16 random bytes, use it
	// once, and keep it yourself: a nonce that is read out of the document, or
	// otherwise comes from the enclave's side, proves nothing.
	Nonce []byte
	// UnsafeAnyNonce accepts any nonce or none, so that a document can be
	// replayed until it is older than the policy's MaxAge. It is right where
	// something else in the document is bound to this exchange, such as a
	// public key that the peer then proves to hold. It excludes Nonce.
	UnsafeAnyNonce bool
	// UserData and PublicKey are compared byte for byte if they aren't nil; an
	// empty value demands an empty or absent field. If nil, the fields are
	// left to the caller, in the Document.
	UserData, PublicKey []byte
	// At judges the document as of that time instead of the clock's, without
	// any skew: for auditing a document of the past. Certificates that have
	// expired since, and keys that leaked since, are believed.
	At time.Time
}

// tpmCommandLine is the NitroTPM's PCR of the kernel command line, which is
// zero where the boot manager's image has a command line of its own.
const tpmCommandLine = 12

// validate reports what can't be meant, since a policy that silently accepts
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
			return &Error{Reason: ReasonInvalidPolicy, Field: field, Detail: "can't be a root", Err: err}
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
				return invalid(field, "PCR%d doesn't exist; the indices are 0 to %d", index, MaxPCRs-1)
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
	// shared by most; a NitroTPM's PCR7 and 12 aren't of one image either.
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

// judge compares an authentic document with the policy and the expectation.
func (v *Verifier) judge(c *Claims, e *Expect, now, start time.Time) (Checked, error) {
	p := &v.policy
	checked := Checked{At: now, Historical: !e.At.IsZero()}
	if c.Platform != p.Platform {
		return Checked{}, fail(ReasonPlatform, "", "the document is of a %v, the policy is for a %v", c.Platform, p.Platform)
	}
	if c.Timestamp.After(start) {
		return Checked{}, fail(ReasonFromFuture, fieldTimestamp, "is %s, %v after %s; check the clock", stamp(c.Timestamp), c.Timestamp.Sub(now), stamp(now))
	}
	if age := now.Sub(c.Timestamp); age > p.MaxAge {
		return Checked{}, fail(ReasonTooOld, fieldTimestamp, "is %s, %v before %s, and the policy's MaxAge is %v; ask for a new document", stamp(c.Timestamp), age, stamp(now), p.MaxAge)
	}
	if c.Debug() && !p.UnsafeAllowDebug {
		return Checked{}, fail(ReasonDebugMode, fieldPCRs, "PCR0, PCR1 and PCR2 are all zero: the enclave runs in debug mode; start it without --debug-mode")
	}
	if !p.UnsafeAnyMeasurement {
		m, err := matchMeasurement(p.Measurements, c)
		if err != nil {
			return Checked{}, err
		}
		checked.Measurement = m.Name
		checked.PCRs = sortedIndices(m.PCRs)
	}
	if err := e.judge(c); err != nil {
		return Checked{}, err
	}
	checked.Nonce = e.Nonce != nil
	checked.UserData = e.UserData != nil
	checked.PublicKey = e.PublicKey != nil
	return checked, nil
}

func matchMeasurement(accepted []Measurement, c *Claims) (*Measurement, error) {
	var misses []string
	for i := range accepted {
		miss := accepted[i].mismatch(c)
		if miss == "" {
			return &accepted[i], nil
		}
		misses = append(misses, miss)
	}
	const maxListed = 4
	more := ""
	if len(misses) > maxListed {
		more = fmt.Sprintf("; and %d more", len(misses)-maxListed)
		misses = misses[:maxListed]
	}
	return nil, fail(ReasonMeasurement, c.pcrField(), "no accepted measurement matches: %s%s", strings.Join(misses, "; "), more)
}

// mismatch says how the document differs, or "" if it matches.
func (m *Measurement) mismatch(c *Claims) string {
	var diffs []string
	for _, index := range sortedIndices(m.PCRs) {
		switch got, ok := c.PCRs[index]; {
		case !ok:
			diffs = append(diffs, fmt.Sprintf("PCR%d is not in the document", index))
		case got != m.PCRs[index]:
			diffs = append(diffs, fmt.Sprintf("PCR%d is %s, not %s", index, got.Short(), m.PCRs[index].Short()))
		}
	}
	s := strings.Join(diffs, ", ")
	if s != "" && m.Name != "" {
		s = m.shownName() + ": " + s
	}
	return s
}

// shownName quotes the name for errors. It is the policy's own, not the document's,
// and often a path, which only its end tells from others: so it has more room.
func (m *Measurement) shownName() string {
	const maxName = 256
	return shorten(m.Name, maxName)
}

func sortedIndices(pcrs map[int]PCR) []int {
	indices := make([]int, 0, len(pcrs))
	for index := range pcrs {
		indices = append(indices, index)
	}
	slices.Sort(indices)
	return indices
}

func (c *Claims) pcrField() string {
	if c.Platform == PlatformNitroTPM {
		return fieldNitroTPMPCRs
	}
	return fieldPCRs
}
