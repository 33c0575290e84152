package kmstest

import (
	"fmt"
	"net/http"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason says which rule an [Error] broke. The strings are stable. A Reason is an
// error: errors.Is(err, kmstest.ReasonUnknownKey) holds for an Error with that Reason.
type Reason string

// Error returns the reason's string.
func (r Reason) Error() string { return string(r) }

const (
	// ReasonInvalidOptions: a field of [Options], [KeyOptions] or [Fault], or an
	// alias, has a value that the server refuses.
	ReasonInvalidOptions Reason = "invalid-options"
	// ReasonInvalidPolicy: a key policy is malformed, or uses a part of the policy
	// language that this package does not evaluate.
	ReasonInvalidPolicy Reason = "invalid-policy"
	// ReasonUnknownKey: no key of the server has that identifier.
	ReasonUnknownKey Reason = "unknown-key"
	// ReasonListen: the server cannot listen on 127.0.0.1.
	ReasonListen Reason = "listen-failed"
)

// Error is the error of this package's functions. The errors that the server sends
// to clients are KMS's own and are not of this type.
type Error struct {
	Op     string // the function or method, such as "CreateKey"
	Reason Reason
	Field  string // the field of the options or the policy's statement, if one is at fault
	Detail string
	Err    error // the cause, or nil
}

// Error returns "kmstest: Op: reason: field: detail: cause" without the empty parts.
func (e *Error) Error() string {
	return errtext.Join("kmstest", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's Reason.
func (e *Error) Is(target error) bool {
	reason, ok := target.(Reason)
	return ok && reason == e.Reason
}

func optionError(op, field, format string, args ...any) *Error {
	return &Error{Op: op, Reason: ReasonInvalidOptions, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// apiError is an error as KMS puts it on the wire.
type apiError struct {
	code    string
	message string // empty: the body has no message at all
	status  int    // 0 means 400
	html    string // sent instead of JSON, if set
	detail  string // for Requests only, never sent
}

func (e *apiError) httpStatus() int {
	if e.status == 0 {
		return http.StatusBadRequest
	}
	return e.status
}

// body is the JSON of the error. KMS spells the member "Message" in its
// AccessDeniedException and "message" elsewhere; clients have to take both.
func (e *apiError) body() map[string]string {
	body := map[string]string{"__type": e.code}
	if e.message != "" {
		name := "message"
		if e.code == codeAccessDenied {
			name = "Message"
		}
		body[name] = e.message
	}
	return body
}

const (
	codeAccessDenied      = "AccessDeniedException"
	codeDependencyTimeout = "DependencyTimeoutException"
	codeDisabled          = "DisabledException"
	codeDryRun            = "DryRunOperationException"
	codeIncorrectKey      = "IncorrectKeyException"
	codeInternal          = "KMSInternalException"
	codeInvalidCiphertext = "InvalidCiphertextException"
	codeInvalidKeyUsage   = "InvalidKeyUsageException"
	codeKeyUnavailable    = "KeyUnavailableException"
	codeNotFound          = "NotFoundException"
	codeSerialization     = "SerializationException"
	codeThrottling        = "ThrottlingException"
	codeTooLarge          = "RequestEntityTooLargeException"
	codeUnavailable       = "ServiceUnavailable"
	codeUnknownOperation  = "UnknownOperationException"
	codeUnsupported       = "UnsupportedOperationException"
	codeValidation        = "ValidationException"
)

func newAPIError(code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *apiError {
	return newAPIError(codeValidation, format, args...)
}

// invalidMember is KMS's text for one member that breaks a constraint of the
// service model. value is printed as KMS does: quoted text, "null", or nothing
// for a blob.
func invalidMember(value, member, constraint string) *apiError {
	if value != "" {
		value += " "
	}
	return invalid("1 validation error detected: Value %sat '%s' failed to satisfy constraint: %s", value, member, constraint)
}

func missingMember(member string) *apiError {
	return invalidMember("null", member, "Member must not be null")
}

// invalidCiphertext has no message, as in KMS: it must not tell a wrong
// encryption context from a damaged blob.
func invalidCiphertext() *apiError { return &apiError{code: codeInvalidCiphertext} }

func internalError(detail string, err error) *apiError {
	return &apiError{code: codeInternal, status: http.StatusInternalServerError,
		message: "The request was rejected because an internal exception occurred. The request can be retried.",
		detail:  fmt.Sprintf("%s: %v", detail, err)}
}
