package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	end := 3
	for _, want := range []Line{
		{Check: &Check{Name: "nsm/extend", Result: Passed, Detail: "<0>", Millis: 7}},
		{Facts: map[string]string{"PCR0": "00"}},
		{Recording: []byte{0, 1, 2}},
		{End: &end},
	} {
		text, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		// The kernel may have written half a line to the same console.
		got, ok, err := ParseLine(append([]byte("[ 1.2] random: "), append(text[:len(text)-1], "\r\n"...)...))
		if diff := cmp.Diff(want, got); !ok || err != nil || diff != "" {
			t.Errorf("%s: %t, %v\n%s", text, ok, err, diff)
		}
	}
	if _, ok, err := ParseLine([]byte("[ 0.0] Linux version")); ok || err != nil {
		t.Error(ok, err)
	}
	if _, ok, err := ParseLine([]byte(Prefix + `{"end":`)); !ok || err == nil {
		t.Error("a damaged line passed")
	}
}
