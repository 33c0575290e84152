package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

// ANSI escape sequences for the verdict.
const (
	green = "\x1b[1;32m"
	red   = "\x1b[1;31m"
	reset = "\x1b[0m"
)

// paint colours text that goes to a terminal.
func paint(w io.Writer, colour, text string) string {
	file, ok := w.(*os.File)
	if !ok || !wantsColour(file, os.Getenv) {
		return text
	}
	return colour + text + reset
}

// wantsColour follows no-color.org. Windows' older consoles would print the
// sequences instead of obeying them.
func wantsColour(file *os.File, getenv func(string) string) bool {
	if getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" || runtime.GOOS == "windows" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// quote writes text that a stranger chose so that it can neither command the
// terminal nor pass for this program's own words.
func quote(s string) string { return strconv.QuoteToASCII(s) }

// escape escapes the characters of a message that keep does not hold for.
func escape(s string, keep func(rune) bool) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		if keep(r) {
			b.WriteRune(r)
			continue
		}
		quoted := quote(s[i : i+n])
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

func isASCII(r rune) bool { return r >= 0x20 && r <= 0x7e }

// withReason is an error's text in one line, without the names of package and
// function. The packages quote what they repeat of a document or an image; this is in
// case that some text of crypto/x509's does not.
func withReason(err error) string {
	if e, ok := errors.AsType[*attestation.Error](err); ok {
		return line(string(e.Reason), e.Field, e.Detail, e.Err)
	}
	if e, ok := errors.AsType[*eif.Error](err); ok {
		return line(string(e.Reason), e.Field, e.Detail, e.Err)
	}
	return line(err.Error(), "", "", nil)
}

// withoutReason is the text of an error about the caller's own input, whose
// reason would tell them nothing.
func withoutReason(err error) string {
	e, ok := errors.AsType[*attestation.Error](err)
	if !ok {
		return err.Error()
	}
	return line("", e.Field, e.Detail, e.Err)
}

func line(reason, field, detail string, cause error) string {
	var parts []string
	for _, part := range []string{reason, field, detail} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if cause != nil {
		parts = append(parts, cause.Error())
	}
	return escape(strings.ReplaceAll(strings.Join(parts, ": "), "…", "..."), isASCII)
}

// text collects readable output: headings, and lines of a name and a value.
type text struct{ bytes.Buffer }

func (t *text) heading(s string) { fmt.Fprintf(t, "\n%s\n", s) }

func (t *text) line(name, format string, args ...any) {
	fmt.Fprintf(t, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
}

// writeText writes what was collected, at once.
func (p *program) writeText(t *text) error {
	if _, err := p.stdout.Write(t.Bytes()); err != nil {
		return fmt.Errorf("standard output: %w", pathless(err))
	}
	return nil
}

// writeJSON writes one JSON value in ASCII: encoding/json leaves characters as
// they are that some terminals take for commands, such as U+009B, or that turn
// text around, such as U+202E.
func (p *program) writeJSON(v any) error {
	encoded, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var t text
	for _, r := range string(encoded) {
		switch {
		case r < 0x7f:
			t.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&t, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&t, `\u%04x\u%04x`, high, low)
		}
	}
	t.WriteByte('\n')
	return p.writeText(&t)
}

// refused is the JSON of a rejection.
type refused struct {
	Verified bool   `json:"verified"` // false
	File     string `json:"file"`     // FILE, or "standard input"
	Reason   string `json:"reason"`
	Field    string `json:"field,omitempty"`
	Offset   *int64 `json:"offset,omitempty"` // in an image, where Field or the flaw begins
	Message  string `json:"message"`
}

// reject reports a rejection of FILE, in JSON too if that is wanted.
func (p *program) reject(file, verdict string, err error, asJSON bool) error {
	var r refused
	if e, ok := errors.AsType[*attestation.Error](err); ok {
		err = e
		r = refused{File: inputName(file), Reason: string(e.Reason), Field: e.Field}
	} else if e, ok := errors.AsType[*eif.Error](err); ok {
		err = e
		r = refused{File: inputName(file), Reason: string(e.Reason), Field: e.Field}
		if e.Offset >= 0 {
			r.Offset = &e.Offset
		}
	} else {
		return err
	}
	r.Message = withReason(err)
	if asJSON {
		if err := p.writeJSON(r); err != nil {
			return err
		}
	}
	return &rejection{r.File, verdict, err}
}
