package attestation

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// PCRSize is the size of a PCR value in bytes: SHA-384, the only digest that
// NSMs use.
const PCRSize = 48

// PCR is the value of a platform configuration register. Its zero value is
// what a register holds that nothing was measured into.
type PCR [PCRSize]byte

// ParsePCR reads a PCR from 96 hexadecimal digits, upper or lower case, as
// nitro-cli prints it.
func ParsePCR(s string) (PCR, error) {
	var p PCR
	if len(s) != 2*PCRSize {
		return PCR{}, fail(ReasonInvalidPolicy, "", "a PCR is %d hexadecimal digits (SHA-384), not %d characters", 2*PCRSize, len(s))
	}
	if _, err := hex.Decode(p[:], []byte(s)); err != nil {
		return PCR{}, &Error{Reason: ReasonInvalidPolicy, Detail: "a PCR is hexadecimal", Err: err}
	}
	return p, nil
}

// String gives the value as 96 lower-case hexadecimal digits, the form KMS
// key policies use.
func (p PCR) String() string { return hex.EncodeToString(p[:]) }

// IsZero reports whether nothing was measured into the register.
func (p PCR) IsZero() bool { return p == PCR{} }

// UnmarshalJSON reads the hexadecimal form from a JSON string. Other than for
// most types, null is an error: it would leave a zero PCR, which most enclaves
// have.
func (p *PCR) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || s == nil {
		return fail(ReasonInvalidPolicy, "", "a PCR is a string of %d hexadecimal digits, not %s", 2*PCRSize, shortText(string(text)))
	}
	return p.UnmarshalText([]byte(*s))
}

// MarshalText gives the hexadecimal form.
func (p PCR) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (p *PCR) UnmarshalText(text []byte) error {
	v, err := ParsePCR(string(text))
	if err != nil {
		return err
	}
	*p = v
	return nil
}

// short is for messages: enough digits to recognise a value by.
func (p PCR) short() string {
	if p.IsZero() {
		return "all zero"
	}
	return fmt.Sprintf("%x…", p[:8])
}
