package pcr

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Size is the size of a register's value in bytes. It is that of SHA-384, the only
// digest that NSMs use.
const Size = 48

// Value is the value of a platform configuration register. The zero value is that of
// a register into which nothing was measured. It is comparable, and safe for
// concurrent reading.
type Value [Size]byte

// ErrSyntax is wrapped by the errors of [Parse] and of Value's Unmarshal methods.
var ErrSyntax = errors.New("a PCR is 96 hexadecimal digits (SHA-384)")

// Parse reads a value from 96 hexadecimal digits, upper or lower case, as nitro-cli
// prints it. The error wraps [ErrSyntax].
func Parse(s string) (Value, error) {
	var v Value
	if len(s) != 2*Size {
		return Value{}, fmt.Errorf("%w, not %d characters", ErrSyntax, len(s))
	}
	if _, err := hex.Decode(v[:], []byte(s)); err != nil {
		return Value{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return v, nil
}

// String returns the value as 96 lower-case hexadecimal digits, the form that KMS
// key policies use.
func (v Value) String() string { return hex.EncodeToString(v[:]) }

// Short returns "all zero", or the first 16 hexadecimal digits and "…", for messages.
func (v Value) Short() string {
	if v.IsZero() {
		return "all zero"
	}
	return fmt.Sprintf("%x…", v[:8])
}

// IsZero reports whether nothing was measured into the register.
func (v Value) IsZero() bool { return v == Value{} }

// UnmarshalJSON reads the hexadecimal form from a JSON string. It refuses null, since
// that would leave a zero, which many registers hold. The error wraps [ErrSyntax].
func (v *Value) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil || s == nil {
		return fmt.Errorf("%w in a JSON string, not %s", ErrSyntax, errtext.Quote(string(text)))
	}
	return v.UnmarshalText([]byte(*s))
}

// MarshalText returns the hexadecimal form. It never fails.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the hexadecimal form. The error wraps [ErrSyntax], and leaves
// the value as it was.
func (v *Value) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*v = parsed
	return nil
}
