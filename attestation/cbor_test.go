package attestation

import (
	"errors"
	"testing"
)

// What may stand in the value of a field that this version does not know.
func TestSkip(t *testing.T) {
	for _, c := range []struct {
		name, item string
		want       Reason
	}{
		{"a map", "\xa2\x61a\x01\x61b\x02", ""},
		{"a map with a key twice", "\xa2\x61a\x01\x61a\x02", ReasonFieldDuplicate},
		{"a map with a map twice as key", "\xa2\xa1\x00\x00\x01\xa1\x00\x00\x02", ReasonFieldDuplicate},
		{"equal values", "\xa2\x61a\x01\x61b\x01", ""},
		{"text that is not UTF-8", "\x61\xff", ReasonMalformedCBOR},
		{"bytes that are not either", "\x41\xff", ""},
	} {
		r := &reader{data: []byte(c.item)}
		err := r.skip("field", maxSkipDepth)
		var e *Error
		if c.want == "" && (err != nil || r.pos != len(c.item)) || c.want != "" && (!errors.As(err, &e) || e.Reason != c.want) {
			t.Errorf("%s: %v at %d, want %q", c.name, err, r.pos, c.want)
		}
	}
}
