package eif

import (
	"fmt"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason names the rule that an image, or the contents of one, broke. The strings are
// stable.
type Reason string

// Error returns the Reason's string. errors.Is(err, ReasonCRC) asks for it.
func (r Reason) Error() string { return string(r) }

// Reasons about the header and the layout of the file.
const (
	// ReasonMagic: the file does not begin with ".eif".
	ReasonMagic Reason = "magic"
	// ReasonVersion: a version other than 2, 3 and 4.
	ReasonVersion Reason = "version"
	// ReasonReserved: a field, flag or table entry that has no meaning is not zero.
	ReasonReserved Reason = "reserved"
	// ReasonSectionCount: the header counts fewer than 2 sections or more than
	// MaxSections.
	ReasonSectionCount Reason = "section-count"
	// ReasonSectionTable: the header's table of offsets and sizes contradicts
	// the sections. Only the size of a signature may, which AWS's tool leaves as
	// it was when it signs a signed image anew.
	ReasonSectionTable Reason = "section-table"
	// ReasonSectionType: a section of a type that does not exist, or not in the
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
	// ReasonCRC: the checksum in the header is not that of the file.
	ReasonCRC Reason = "crc"
	// ReasonMetadata: the metadata is not the JSON that it must be.
	ReasonMetadata Reason = "metadata"
)

// Reasons about the signature.
const (
	// ReasonSignatureMalformed: the signature section is not of the form that
	// builders write, or holds more than one signature.
	ReasonSignatureMalformed Reason = "signature-malformed"
	// ReasonSignatureCertificate: what should be the signing certificate is
	// none, or its key is not on P-256, P-384 or P-521.
	ReasonSignatureCertificate Reason = "signature-certificate"
	// ReasonSignatureAlgorithm: the algorithm is not that of the certificate's
	// key: ES256 on P-256, ES384 on P-384, ES512 on P-521.
	ReasonSignatureAlgorithm Reason = "signature-algorithm"
	// ReasonSignaturePayload: what was signed is not the PCR0 of this image.
	ReasonSignaturePayload Reason = "signature-payload"
	// ReasonSignature: the signature does not verify with the certificate's key.
	ReasonSignature Reason = "signature"
)

// Reasons that are not about an image.
const (
	// ReasonRead: reading failed; Err says why.
	ReasonRead Reason = "read"
	// ReasonWrite: writing failed; Err says why.
	ReasonWrite Reason = "write"
	// ReasonInvalidContents: Write was given what cannot become an image.
	ReasonInvalidContents Reason = "invalid-contents"
	// ReasonSourceChanged: a Source gave other bytes, or fewer, when it was read
	// again.
	ReasonSourceChanged Reason = "source-changed"
)

// Error is the error of every function of this package.
//
// Detail quotes and shortens what it shows of an image, which is not to be trusted.
// Error does the same with the text of Err.
type Error struct {
	// Op is the function that failed, "Read" or "Write".
	Op string
	// Reason names the rule that was broken.
	Reason Reason
	// Field is what broke it: a field of the header ("num_sections"), a section
	// by number and type ("section 2 (metadata)"), or a field of Contents.
	Field string
	// Detail says what was seen, what was expected and, where there is one, the
	// remedy. It begins with the Offset.
	Detail string
	// Err is the underlying error, or nil.
	Err error
	// Offset is where Field begins in the file, in bytes, or where the file ends or
	// cannot be read; -1 if there is no such place.
	Offset int64
}

// Error returns one line: "eif: Op: reason: field: detail: cause".
func (e *Error) Error() string {
	return errtext.Join("eif", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.Err }

func fail(reason Reason, field string, offset int64, format string, args ...any) *Error {
	return failWith(nil, reason, field, offset, format, args...)
}

// failWith is fail with a cause.
func failWith(cause error, reason Reason, field string, offset int64, format string, args ...any) *Error {
	detail := fmt.Sprintf(format, args...)
	if offset >= 0 {
		where := fmt.Sprintf("at byte %d", offset)
		if detail != "" {
			where += ": "
		}
		detail = where + detail
	}
	return &Error{Reason: reason, Field: field, Offset: offset, Detail: detail, Err: cause}
}

// named puts the operation into an error that was made without knowing it.
func named(op string, err error) error {
	if e, ok := err.(*Error); ok && e.Op == "" {
		e.Op = op
	}
	return err
}
