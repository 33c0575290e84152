package kmsclient

import (
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason names the rule that was broken; errors.Is finds it in an [*Error]. The
// strings are stable.
type Reason string

// Error returns the reason's string.
func (r Reason) Error() string { return string(r) }

// Mistakes of the caller. Nothing was sent.
const (
	// ReasonInvalidOptions: an argument or option cannot be meant, or a call is for a
	// region in which no pinned key is.
	ReasonInvalidOptions Reason = "invalid-options"
	// ReasonRecipientSet: the input has a Recipient, which only the client sets.
	ReasonRecipientSet Reason = "recipient-set"
	// ReasonKeyNotPinned: the request, of any operation, names a KMS key that is not
	// in Options.KeyIDs, or does not say which key it is for.
	ReasonKeyNotPinned Reason = "key-not-pinned"
	// ReasonEndpoint: the request is for an address that is not https, or for a host
	// that is neither KMS's nor in Options.Hosts.
	ReasonEndpoint Reason = "endpoint"
	// ReasonUnsupported: this version of the SDK lacks a step that the client needs.
	ReasonUnsupported Reason = "unsupported"
)

// Reasons why [LoadConfig] has no configuration.
const (
	// ReasonNoRegion: neither an option nor the environment names a region, and
	// there is no instance metadata service to ask.
	ReasonNoRegion Reason = "no-region"
	// ReasonNoCredentials: neither an option nor the environment has credentials, and
	// there is no instance metadata service to ask.
	ReasonNoCredentials Reason = "no-credentials"
	// ReasonInstanceMetadata: the parent's instance metadata service responds with
	// something else. Calls have this too, when credentials are not renewed.
	ReasonInstanceMetadata Reason = "instance-metadata"
)

// Reasons about the recipient's key and its attestation document. Nothing was sent.
const (
	// ReasonRecipientKey: [New] or [Attested] could not make the RSA key.
	ReasonRecipientKey Reason = "recipient-key"
	// ReasonAttestation: the attester failed. It is asked last, when credentials and
	// endpoint are known.
	ReasonAttestation Reason = "attestation"
	// ReasonDocumentSize: the document is empty or larger than [MaxDocumentSize].
	ReasonDocumentSize Reason = "document-size"
)

// Reasons about the response, which is dropped.
const (
	// ReasonPlaintextInResponse: the response holds a plaintext, which KMS never
	// sends to a recipient.
	ReasonPlaintextInResponse Reason = "plaintext-in-response"
	// ReasonNoEnvelope: the response holds no envelope for the recipient.
	ReasonNoEnvelope Reason = "no-envelope"
	// ReasonResponseKey: the response is from a KMS key that is not the one asked
	// for, or not pinned, or not named.
	ReasonResponseKey Reason = "response-key"
	// ReasonIncompleteResponse: the response of GenerateDataKey lacks CiphertextBlob,
	// or that of GenerateDataKeyPair lacks PrivateKeyCiphertextBlob or PublicKey.
	ReasonIncompleteResponse Reason = "incomplete-response"
	// ReasonEnvelope: the client's key does not open the envelope.
	ReasonEnvelope Reason = "envelope"
	// ReasonPlaintextSize: the plaintext is empty or not of the size asked for.
	ReasonPlaintextSize Reason = "plaintext-size"
)

// Reasons why there is no response.
const (
	// ReasonAccessDenied: KMS refuses, by the key's policy or the caller's. A
	// document with other PCRs than the policy demands ends here.
	ReasonAccessDenied Reason = "access-denied"
	// ReasonKMS: KMS responds with another error. errors.As finds the SDK's type of
	// it, or smithy.APIError.
	ReasonKMS Reason = "kms-error"
	// ReasonChannel: there is no connection, no TLS, or no whole response in the time
	// of an attempt, from KMS or the instance metadata service.
	ReasonChannel Reason = "channel"
	// ReasonCredentials: the credentials provider failed, and KMS was not asked. If
	// the provider asks another service, such as STS, errors.As finds its error.
	ReasonCredentials Reason = "credentials"
	// ReasonMalformedResponse: the response is whole, but too long or not of KMS's
	// protocol.
	ReasonMalformedResponse Reason = "malformed-response"
	// ReasonCanceled: the context ended first. The error wraps the context's, and
	// that of the last attempt which had failed before.
	ReasonCanceled Reason = "canceled"
)

// Error is the error of this package's functions and of the five attested operations.
// The SDK puts a *smithy.OperationError around those of operations:
//
//	if errors.Is(err, kmsclient.ReasonAccessDenied) { … }
//	var e *kmsclient.Error
//	if errors.As(err, &e) && e.Debug { … }
//	var disabled *types.DisabledException
//	if errors.As(err, &disabled) { … }
//
// errors.Is finds context.DeadlineExceeded and context.Canceled only if the caller's
// context ended, never for the limit of an attempt or a dialer.
//
// types.DryRunOperationException, by which KMS says that a dry run would have
// succeeded, stays as it is. Other operations return the SDK's errors, besides
// ReasonInvalidOptions, ReasonKeyNotPinned, ReasonEndpoint and ReasonUnsupported.
type Error struct {
	// Op is the function or operation, such as "New" or "Decrypt".
	Op string
	// Reason says which rule was broken.
	Reason Reason
	// Field is the option, the response's field, the endpoint, or "key" and the KMS
	// key at fault. It is empty if there is none.
	Field string
	// Detail says what was found and what to do. It holds no secrets.
	Detail string
	// Err is the cause, or nil.
	Err error

	// KeyID is the KMS key at fault, as the caller or KMS wrote it, or "".
	KeyID string
	// Code, Message and RequestID are those of KMS's error, such as
	// "AccessDeniedException"; each may be empty. CloudTrail has the same request ID.
	// Where KMS repeats the request, Message and the text of Error lack the session
	// token. The text of the SDK's error beneath has it.
	Code, Message, RequestID string
	// PCRs are registers 0, 1, 2, 3, 4 and 8 of the last attempt's document, if KMS
	// responded with an error. It is nil if the document cannot be read. The text of
	// Error shortens them.
	PCRs map[int]attestation.PCR
	// Debug says that this document is of an enclave in debug mode, whose PCR0, PCR1
	// and PCR2 are zeros.
	Debug bool
	// ClockSkew is how far the enclave's clock is ahead of KMS's, or behind if
	// negative, by the Date of an error response, in whole seconds. 0 means less than
	// about 5 seconds, or unknown.
	ClockSkew time.Duration
}

// Error returns all that a person needs, in one line.
func (e *Error) Error() string {
	return errtext.Join("kmsclient", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// named returns a copy of an *Error with the operation set. It copies, since an error
// of a credentials provider can belong to several calls. Errors of other types, and
// what is wrapped in them, stay as they are.
func named(op string, err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	own := *e
	own.Op = op
	return &own
}
