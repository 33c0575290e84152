package pcr_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/attestation/pcr"
)

var digits = strings.Repeat("0123456789abcdef", 6)

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		digits:                  true,
		strings.ToUpper(digits): true,
		"":                      false,
		digits[2:]:              false,
		digits + "00":           false,
		"x" + digits[1:]:        false,
		"0x" + digits[2:]:       false,
		" " + digits[1:]:        false,
	} {
		v, err := pcr.Parse(text)
		if (err == nil) != ok {
			t.Errorf("Parse(%q): %v", text, err)
		}
		if ok && v.String() != digits {
			t.Errorf("Parse(%q) is %v", text, v)
		}
		if !ok && (!errors.Is(err, pcr.ErrSyntax) || !v.IsZero()) {
			t.Errorf("Parse(%q) returns %v and %v", text, v, err)
		}
	}
}

func TestJSON(t *testing.T) {
	v, err := pcr.Parse(digits)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[int]pcr.Value{0: v})
	if err != nil || string(text) != `{"0":"`+digits+`"}` {
		t.Fatalf("%s, %v", text, err)
	}
	var back map[int]pcr.Value
	if err := json.Unmarshal(text, &back); err != nil || back[0] != v {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{`null`, `""`, `1`, `[0]`, `{}`, `"00"`} {
		kept := v
		if err := kept.UnmarshalJSON([]byte(bad)); !errors.Is(err, pcr.ErrSyntax) || kept != v {
			t.Errorf("%s: %v, %v", bad, kept, err)
		}
	}
}

func TestShort(t *testing.T) {
	if got := (pcr.Value{}).Short(); got != "all zero" {
		t.Errorf("a zero value is %q", got)
	}
	if got := (pcr.Value{0xab}).Short(); got != "ab00000000000000…" {
		t.Errorf("it is %q", got)
	}
}

func ExampleParse() {
	v, err := pcr.Parse(strings.Repeat("0", 95) + "1")
	fmt.Println(v.Short(), v.IsZero(), err)
	// Output: 0000000000000000… false <nil>
}
