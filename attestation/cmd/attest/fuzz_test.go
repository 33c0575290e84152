package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever the input, it decodes to one form, and the encodings of what it
// decodes to decode to the same.
func FuzzDecode(f *testing.F) {
	dir := fixtures(f)
	for _, name := range []string{"doc.cbor", "doc.b64", "wrapped.b64", "doc.hex", "release.json", "root.pem"} {
		f.Add([]byte(readFixture(f, dir, name)))
	}
	for _, s := range []string{"", " ", "0x", "hESh", "hESh=", "hE==", "hE=", "hF", "84", "8", "0oRE", "-_-_", "+/-_", "\xef\xbb\xbf84"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := decode(data)
		if err != nil {
			if in.raw != nil {
				t.Error("bytes beside an error")
			}
			return
		}
		if len(in.raw) == 0 || len(in.raw) > len(data) {
			t.Errorf("%d bytes of %d", len(in.raw), len(data))
		}
		// Documents only: other bytes may be hexadecimal in base64.
		document := append([]byte{0x84}, in.raw...)
		for form, s := range map[string]string{
			"raw":    string(document),
			"hex":    hex.EncodeToString(document),
			"base64": base64.StdEncoding.EncodeToString(document),
		} {
			again, err := decode([]byte(s))
			if err != nil || again.form != form || !bytes.Equal(again.raw, document) {
				t.Errorf("%s of % x decodes to %s % x, %v", form, document, again.form, again.raw, err)
			}
		}
		if in.form == "raw" && !bytes.Equal(in.raw, data) {
			t.Error("raw bytes were changed")
		}
	})
}

// Whatever the document, the output is printable ASCII, and JSON if asked for;
// and what is not signed by AWS is never verified.
func FuzzOutput(f *testing.F) {
	dir := fixtures(f)
	for _, name := range []string{"doc.cbor", "hostile.cbor", "tpm.cbor", "bare.cbor", "trailing.cbor", "doc.b64"} {
		f.Add([]byte(readFixture(f, dir, name)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, args := range [][]string{
			{"inspect", "-"}, {"inspect", "-json", "-"},
			{"verify", "-json", "-any-measurement", "-allow-debug", "-at", "document", "-"},
		} {
			stdout, stderr, code := attestFrom(string(data), args...)
			for _, r := range stdout + stderr {
				if r != '\n' && (r < 0x20 || r > 0x7e) || r == utf8.RuneError {
					t.Errorf("%q wrote %q and %q", args, stdout, stderr)
					break
				}
			}
			if args[0] == "verify" && code == exitVerified {
				t.Errorf("verified: %s", stdout)
			}
			if code != exitUsage && args[1] == "-json" && !json.Valid([]byte(stdout)) {
				t.Errorf("%q wrote no JSON: %s", args, stdout)
			}
			if code != exitUsage && args[1] != "-json" && code == exitVerified && !strings.HasPrefix(stdout, unverified) {
				t.Errorf("%q does not say that it verified nothing", args)
			}
		}
	})
}
