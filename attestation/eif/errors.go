package eif

import (
	"fmt"
	"strings"
	"unicode"
)

// Reason names the rule that an image, or what shall become one, breaks. The
// strings are stable: log them, count them, compare them.
type Reason string

// Reasons about the header and the layout of the file.
const (
	// ReasonMagic: the file doesn't begin with ".eif".
	ReasonMagic Reason = "magic"
	// ReasonVersion: a version other than 2, 3 and 4.
	ReasonVersion Reason = "version"
	// ReasonReserved: a field, flag or table entry that has no meaning isn't zero.
	ReasonReserved Reason = "reserved"
	// ReasonSectionCount: the header counts fewer than 2 sections or more than
	// MaxSections.
	ReasonSectionCount Reason = "section-count"
	// ReasonSectionTable: the header's table of offsets and sizes contradicts
	// the sections. Only the size of a signature may, which AWS's tool leaves as
	// it was when it signs a signed image anew.
	ReasonSectionTable Reason = "section-table"
	// ReasonSectionType: a section of a type that doesn't exist, or not in the
	// image's version.
	ReasonSectionType Reason = "section-type"
	// ReasonSectionSize: a section, or the image, is larger than it may be; or
	// the kernel is empty.
	ReasonSectionSize Reason = "section-size"
	// ReasonSectionOrder: a ram disk stands before the kernel.
	ReasonSectionOrder Reason = "section-order"
	// ReasonSectionDuplicate: a second section of a type other than ram disk.
	ReasonSectionDuplicate Reason = "section-duplicate"
	// ReasonSectionMissing: no kernel, no command line or no ram disk; or, in
	// version 4, no metadata.
	ReasonSectionMissing Reason = "section-missing"
	// ReasonTruncated: the file ends early.
	ReasonTruncated Reason = "truncated"
	// ReasonTrailingBytes: bytes follow the last section.
	ReasonTrailingBytes Reason = "trailing-bytes"
	// ReasonCRC: the checksum in the header isn't that of the file.
	ReasonCRC Reason = "crc"
	// ReasonMetadata: the metadata isn't the JSON that it must be.
	ReasonMetadata Reason = "metadata"
)

// Reasons about the signature.
const (
	// ReasonSignatureMalformed: the signature section isn't of the form that
	// builders write, or holds more than one signature.
	ReasonSignatureMalformed Reason = "signature-malformed"
	// ReasonSignatureCertificate: what should be the signing certificate is
	// none, or its key isn't on P-256, P-384 or P-521.
	ReasonSignatureCertificate Reason = "signature-certificate"
	// ReasonSignatureAlgorithm: the algorithm isn't that of the certificate's
	// key: ES256 on P-256, ES384 on P-384, ES512 on P-521.
	ReasonSignatureAlgorithm Reason = "signature-algorithm"
	// ReasonSignaturePayload: what was signed isn't the PCR0 of this image.
	ReasonSignaturePayload Reason = "signature-payload"
	// ReasonSignature: the signature doesn't verify with the certificate's key.
	ReasonSignature Reason = "signature"
)

// Reasons that aren't about an image.
const (
	// ReasonRead: reading failed; Err says why.
	ReasonRead Reason = "read"
	// ReasonWrite: writing failed; Err says why.
	ReasonWrite Reason = "write"
	// ReasonInvalidContents: Write was given what can't become an image.
	ReasonInvalidContents Reason = "invalid-contents"
	// ReasonSourceChanged: a Source gave other bytes, or fewer, when it was read
	// again.
	ReasonSourceChanged Reason = "source-changed"
)

// Error is the error of every function of this package.
//
// The text of an image that failed is not to be trusted, so Detail quotes and
// shortens what it shows of it, and Error does so with Err's.
type Error struct {
	// Reason names the rule that was broken.
	Reason Reason
	// Place is what broke it: a field of the header ("num_sections"), a section
	// by number and type ("section 2 (metadata)"), or a field of Contents.
	Place string
	// Offset is where in the file that begins, in bytes, or where the file ends
	// or can't be read; -1 if it is nowhere.
	Offset int64
	// Detail says what was seen, what was expected and, where there is one, the
	// remedy.
	Detail string
	// Err is the underlying error, or nil.
	Err error
}

// Error says the reason, the place and the detail in one line.
func (e *Error) Error() string {
	s := "eif: " + string(e.Reason)
	if e.Place != "" {
		s += ": " + e.Place
	}
	if e.Offset >= 0 {
		s += fmt.Sprintf(" at byte %d", e.Offset)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + plain(e.Err.Error())
	}
	return s
}

// maxErr bounds how much of the text of another package's error is shown, which
// may repeat what it was given.
const maxErr = 256

// plain shortens a text and takes out what could command a terminal.
func plain(s string) string {
	if len(s) > maxErr {
		s = s[:maxErr] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.Err }

func fail(reason Reason, place string, offset int64, format string, args ...any) *Error {
	return &Error{Reason: reason, Place: place, Offset: offset, Detail: fmt.Sprintf(format, args...)}
}

// maxShown bounds how much of an image an error repeats.
const maxShown = 32

func shortText(s string) string {
	if len(s) > maxShown {
		return fmt.Sprintf("%q… (%d bytes)", s[:maxShown], len(s))
	}
	return fmt.Sprintf("%q", s)
}
