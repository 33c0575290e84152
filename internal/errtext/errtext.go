// Package errtext puts the errors of this module's packages into words, all in one
// shape:
//
//	package: Op: reason: field: detail: cause
//
// Parts that are empty are left out. What others wrote, such as a cause or a quoted
// piece of input, comes through shortened and without characters that could command
// a terminal or break a log line.
//
// Every package has an error type of its own, whose first fields are Op, Reason,
// Field, Detail and Err in this order, and a Reason that is an error value:
//
//	errors.Is(err, kmsclient.ReasonAccessDenied)
//
// holds for an error that has this Reason, anywhere in the chain. Programs decide by
// that, never by the text.
package errtext

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxCause bounds the text of a cause, in bytes.
const MaxCause = 4096

// maxQuoted bounds how much of an untrusted input an error repeats, in bytes.
const maxQuoted = 32

// Join returns the text of an error. op, reason, field and detail may be empty, and
// cause may be nil.
func Join(pkg, op, reason, field, detail string, cause error) string {
	parts := []string{pkg}
	for _, part := range []string{op, reason, field, detail} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if cause != nil {
		parts = append(parts, cut(cause.Error(), MaxCause))
	}
	return Line(strings.Join(parts, ": "))
}

// Line returns s as one line: white space becomes spaces, and every other character
// that is not printable becomes U+FFFD.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		}
		return unicode.ReplacementChar
	}, s)
}

// Quote returns s in quotes and with escapes, at most its first 32 bytes, and how many
// there are if it is longer.
func Quote(s string) string { return QuoteUpTo(maxQuoted, s) }

// QuoteUpTo is Quote with another bound, in bytes.
func QuoteUpTo(limit int, s string) string {
	if len(s) > limit {
		return fmt.Sprintf("%q… (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// Hex returns b in hexadecimal digits, at most those of its first 32 bytes, and how
// many there are if it is longer.
func Hex(b []byte) string {
	if len(b) > maxQuoted {
		return fmt.Sprintf("%x… (%d bytes)", b[:maxQuoted], len(b))
	}
	return fmt.Sprintf("%x", b)
}

// cut shortens s to limit bytes at most, and the ellipsis, between two characters.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
