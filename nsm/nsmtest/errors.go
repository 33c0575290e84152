package nsmtest

import "github.com/keyvouch/keyvouch/internal/errtext"

// Reason classifies an [Error]. The strings are stable.
type Reason string

// Error returns the reason itself.
func (r Reason) Error() string { return string(r) }

// The reasons of an [Error].
const (
	// ReasonInvalidOptions: the options given to New or NewPKI cannot work.
	ReasonInvalidOptions Reason = "invalid-options"

	// ReasonCertificate: a certificate could not be made, usually because of
	// what a hook of [PKIOptions] returned.
	ReasonCertificate Reason = "certificate"

	// ReasonSignature: the leaf's key cannot sign a document.
	ReasonSignature Reason = "signature"

	// ReasonRecording: a recording cannot be read or written.
	ReasonRecording Reason = "recording"

	// ReasonMismatch: a request differs from the recorded one.
	ReasonMismatch Reason = "mismatch"

	// ReasonExhausted: a request came after the last recorded one.
	ReasonExhausted Reason = "exhausted"

	// ReasonRecorded: the recording has an error in place of a response. Err
	// is what the recorded [Failure] names, if anything.
	ReasonRecorded Reason = "recorded"
)

// Error is the error of this package's own functions. The software NSM's
// refusals are CBOR answers, as on hardware; what the Linux driver would refuse
// is an *nsm.Error.
type Error struct {
	// Op is the function or method that failed, such as "New", "Send" or
	// "ReadRecording".
	Op string

	// Reason says what kind of failure it is.
	Reason Reason

	// Field is the option or the place in a recording, if there is one.
	Field string

	// Detail says what was wrong, where, and what to do about it.
	Detail string

	// Err is the cause, or nil.
	Err error
}

// Error returns one line: "nsmtest: Op: reason: field: detail: cause". With
// [ReasonRecorded] it is the recorded text as it was.
func (e *Error) Error() string {
	if e.Reason == ReasonRecorded && e.Detail != "" {
		return e.Detail
	}
	return errtext.Join("nsmtest", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}
