package attestation

import (
	"fmt"
	"strings"
	"time"
)

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

func (c *Claims) pcrField() string {
	if c.Platform == PlatformNitroTPM {
		return fieldNitroTPMPCRs
	}
	return fieldPCRs
}
