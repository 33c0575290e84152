package kmstest

import (
	"fmt"
	"net/http"
)

// Reason says which rule an [Error] broke. The strings are stable.
type Reason string

const (
	// InvalidOption: a field of [Options], [KeyOptions] or [Fault] has a value
	// the server cannot work with.
	InvalidOption Reason = "invalid-option"
	// InvalidPolicy: a key policy is malformed, or uses a part of the policy
	// language that this package does not evaluate.
	InvalidPolicy Reason = "invalid-policy"
	// UnknownKey: no key of the server has that identifier.
	UnknownKey Reason = "unknown-key"
	// ListenFailed: the server could not listen on 127.0.0.1.
	ListenFailed Reason = "listen-failed"
)

// Error is the error type of this package's functions. What the server answers
// to a client is not an Error: it is KMS's own error on the wire.
type Error struct {
	Reason Reason
	Detail string
	Err    error // the cause, or nil
}

func (e *Error) Error() string {
	text := "kmstest: " + string(e.Reason) + ": " + e.Detail
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

func optionError(format string, args ...any) *Error {
	return &Error{Reason: InvalidOption, Detail: fmt.Sprintf(format, args...)}
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
	codeAccessDenied        = "AccessDeniedException"
	codeDependencyTimeout   = "DependencyTimeoutException"
	codeDisabled            = "DisabledException"
	codeDryRun              = "DryRunOperationException"
	codeExpiredToken        = "ExpiredTokenException"
	codeIncompleteSignature = "IncompleteSignatureException"
	codeIncorrectKey        = "IncorrectKeyException"
	codeInternal            = "KMSInternalException"
	codeInvalidCiphertext   = "InvalidCiphertextException"
	codeInvalidKeyUsage     = "InvalidKeyUsageException"
	codeInvalidSignature    = "InvalidSignatureException"
	codeKeyUnavailable      = "KeyUnavailableException"
	codeMissingToken        = "MissingAuthenticationTokenException"
	codeNotFound            = "NotFoundException"
	codeSerialization       = "SerializationException"
	codeThrottling          = "ThrottlingException"
	codeTooLarge            = "RequestEntityTooLargeException"
	codeUnavailable         = "ServiceUnavailable"
	codeUnknownOperation    = "UnknownOperationException"
	codeUnrecognizedClient  = "UnrecognizedClientException"
	codeUnsupported         = "UnsupportedOperationException"
	codeValidation          = "ValidationException"
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
