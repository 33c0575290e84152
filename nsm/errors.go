package nsm

import (
	"errors"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason classifies an [Error], and works with errors.Is. The strings are stable.
type Reason string

// Error returns the reason itself.
func (r Reason) Error() string { return string(r) }

// The reasons of an [Error].
const (
	// ReasonNoDevice: there is no NSM, usually because the process does not run
	// inside a Nitro Enclave.
	ReasonNoDevice Reason = "no-device"

	// ReasonPermission: /dev/nsm is there, but this process may not open it; or it
	// may not add to the kernel's randomness.
	ReasonPermission Reason = "permission"

	// ReasonUnsupported: this operating system cannot do it; the error wraps
	// errors.ErrUnsupported.
	ReasonUnsupported Reason = "unsupported"

	// ReasonClosed: the session or device was closed.
	ReasonClosed Reason = "closed"

	// ReasonInvalidArgument: the caller's argument makes no sense; nothing was
	// sent.
	ReasonInvalidArgument Reason = "invalid-argument"

	// ReasonRequestSize: an argument or the whole request is longer than the NSM
	// takes. Nothing reached the NSM.
	ReasonRequestSize Reason = "request-size"

	// ReasonCanceled: the context ended first; the error wraps its error
	// (context.Canceled or context.DeadlineExceeded).
	ReasonCanceled Reason = "canceled"

	// ReasonInterrupted: a signal interrupted the request (EINTR).
	ReasonInterrupted Reason = "interrupted"

	// ReasonTimeout: the driver gave up waiting for the NSM (ETIMEDOUT; it
	// waits 120 seconds).
	ReasonTimeout Reason = "timeout"

	// ReasonDevice: the device failed otherwise; the error wraps the cause.
	ReasonDevice Reason = "device"

	// ReasonNSM: the NSM answered with an error; see [Error.Code].
	ReasonNSM Reason = "nsm-error"

	// ReasonMalformedResponse: the NSM's answer is not one that its API
	// allows, or is not the answer to the request.
	ReasonMalformedResponse Reason = "malformed-response"
)

// Code is the NSM's own name for an error, as in the ErrorCode enumeration of
// AWS's aws-nitro-enclaves-nsm-api.
type Code string

// The NSM's error codes.
const (
	CodeSuccess          Code = "Success"          // no error; as an error it is a fault of the NSM
	CodeInvalidArgument  Code = "InvalidArgument"  // an argument is invalid
	CodeInvalidIndex     Code = "InvalidIndex"     // there is no PCR with this index
	CodeInvalidResponse  Code = "InvalidResponse"  // the response does not fit the request
	CodeReadOnlyIndex    Code = "ReadOnlyIndex"    // the PCR is locked
	CodeInvalidOperation Code = "InvalidOperation" // the NSM cannot do this, or cannot parse the request
	CodeBufferTooSmall   Code = "BufferTooSmall"   // the response does not fit the buffer
	CodeInputTooLarge    Code = "InputTooLarge"    // an argument is too long
	CodeInternalError    Code = "InternalError"    // the NSM failed
)

// Error is the error of every function of this package.
type Error struct {
	// Op is the function or method that failed: "Open", "Attest", "ExtendPCR", …
	Op string

	// Reason says what kind of failure it is.
	Reason Reason

	// Field is the argument that failed: "UserData", "index", … It is empty where no
	// argument is at fault.
	Field string

	// Detail says for people what was wrong and what to do about it.
	Detail string

	// Err is the cause, or nil.
	Err error

	// Code is the NSM's own error code. It is set with [ReasonNSM], and is
	// [CodeInputTooLarge] when the driver refused an over-long request, as in AWS's
	// own library. Otherwise it is empty.
	Code Code

	// unsent is true if the request did not reach the device.
	unsent bool
}

// Error returns one line: nsm, Op, Reason, Field, the NSM's code, Detail and Err.
func (e *Error) Error() string {
	detail := string(e.Code)
	if detail != "" && e.Detail != "" {
		detail += ": "
	}
	return errtext.Join("nsm", e.Op, string(e.Reason), e.Field, detail+e.Detail, e.Err)
}

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// withOp returns err as an *Error of the operation op. What a device wrapped
// around an *Error of its own stays in the chain, for errors.Is and errors.As.
func withOp(op string, err error) *Error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Op: op, Reason: ReasonDevice, Detail: "the device failed", Err: err}
	}
	named := *e
	named.Op = op
	if outermost, ok := err.(*Error); !ok || outermost != e {
		named.Err = err
	}
	return &named
}

// advice says what to do about an error that the NSM answered with.
func (c Code) advice() string {
	switch c {
	case CodeInvalidArgument:
		return "the NSM found an argument invalid"
	case CodeInvalidIndex:
		return "the NSM has no such PCR; Describe tells how many it has (32 on hardware: 0 to 31)"
	case CodeReadOnlyIndex:
		return "the PCR is locked and stays so until the enclave ends; PCRs 0-15 are locked at boot, use one from 16 up that was not locked since"
	case CodeInvalidOperation:
		return "the NSM does not take this request; check that a PCR index is less than the number that Describe tells"
	case CodeBufferTooSmall:
		return "the response did not fit the driver's buffer"
	case CodeInputTooLarge:
		return "an argument is longer than the NSM takes; shorten it, or pass its hash"
	case CodeInternalError:
		return "the NSM failed; try again, and if it stays restart the enclave"
	case CodeInvalidResponse:
		return "the NSM found its own response invalid; try again"
	case CodeSuccess:
		return "the NSM answered with an error that is none"
	}
	return "an error that this version does not know"
}
