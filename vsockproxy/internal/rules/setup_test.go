package rules

import (
	"errors"
	"testing"
)

func mustAllow(t *testing.T, entries ...string) List {
	t.Helper()
	l, err := Parse(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustTarget(t *testing.T, s string) Target {
	t.Helper()
	parsed, err := ParseTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func entriesOf(l List) []string {
	entries := make([]string, len(l))
	for i, r := range l {
		entries[i] = r.String()
	}
	return entries
}

// wantError checks the type of an error and which entry it is about.
func wantError(t *testing.T, err error, entry int) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Entry != entry {
		t.Fatalf("error %T %v, want one about entry %d", err, err, entry)
	}
	return e
}
