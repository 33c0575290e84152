package errtext_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

func TestJoin(t *testing.T) {
	cause := errors.New("the cause")
	for _, c := range []struct {
		op, reason, field, detail string
		cause                     error
		want                      string
	}{
		{"Verify", "nonce", "nonce", "is absent", cause, "p: Verify: nonce: nonce: is absent: the cause"},
		{"Verify", "nonce", "", "", nil, "p: Verify: nonce"},
		{"", "", "", "", nil, "p"},
		{"Open", "device", "", "a\nb\x1b[31m\u202ec", nil, "p: Open: device: a b\ufffd[31m\ufffdc"},
		{"Open", "device", "", "", errors.New("bell\a and \u2028"), "p: Open: device: bell\ufffd and \ufffd"},
	} {
		if got := errtext.Join("p", c.op, c.reason, c.field, c.detail, c.cause); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}

func TestLongCause(t *testing.T) {
	got := errtext.Join("p", "", "", "", "", errors.New(strings.Repeat("ä", 1<<20)))
	if len(got) > errtext.MaxCause+len("p: …") || !utf8.ValidString(got) || !strings.HasSuffix(got, "ä…") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-8):])
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"":                      `""`,
		"a\nb":                  `"a\nb"`,
		strings.Repeat("x", 32): `"` + strings.Repeat("x", 32) + `"`,
		strings.Repeat("x", 33): `"` + strings.Repeat("x", 32) + `"… (33 bytes)`,
	} {
		if got := errtext.Quote(text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := errtext.Hex(make([]byte, 33)); got != strings.Repeat("00", 32)+"… (33 bytes)" {
		t.Errorf("Hex is %s", got)
	}
	if got := errtext.Hex([]byte{0xab}); got != "ab" {
		t.Errorf("Hex is %s", got)
	}
}
