package kmsclient

import (
	"strings"
	"time"
	"unicode"

	"github.com/keyvouch/keyvouch/attestation"
)

// Reason names the rule that a call broke. The strings are stable: log them,
// count them, compare them.
type Reason string

// Reasons that are the caller's own mistakes. Nothing was sent.
const (
	// ReasonInvalidOptions: New, Attested, LoadConfig or ResolveAlias was given
	// something that can't be meant, or a call is for a region in which no pinned
	// key is.
	ReasonInvalidOptions Reason = "invalid-options"
	// ReasonRecipientSet: the input has a Recipient, which is for the client
	// to set.
	ReasonRecipientSet Reason = "recipient-set"
	// ReasonKeyNotPinned: the request, of whatever operation, names a KMS key
	// that Options.KeyIDs doesn't, or names it in a way that doesn't say which
	// key it is.
	ReasonKeyNotPinned Reason = "key-not-pinned"
	// ReasonEndpoint: the request would go to an address that isn't https, or
	// to a host that is neither KMS's nor in Options.Hosts.
	ReasonEndpoint Reason = "endpoint"
)

// Reasons why LoadConfig has no configuration.
const (
	// ReasonNoRegion: neither an option, the environment nor the instance
	// metadata service is there to name a region.
	ReasonNoRegion Reason = "no-region"
	// ReasonNoCredentials: neither an option, the environment nor the instance
	// metadata service is there to give credentials.
	ReasonNoCredentials Reason = "no-credentials"
	// ReasonInstanceMetadata: the parent instance's metadata service answers,
	// but not with what was asked for. Calls have this too, when credentials
	// can't be renewed.
	ReasonInstanceMetadata Reason = "instance-metadata"
)

// Reasons about the recipient's key and its attestation document. Nothing was
// sent.
const (
	// ReasonRecipientKey: New or Attested couldn't make the RSA key.
	ReasonRecipientKey Reason = "recipient-key"
	// ReasonAttestation: the attester failed. It is asked before anything else
	// that a call needs, such as credentials.
	ReasonAttestation Reason = "attestation"
	// ReasonDocumentSize: the attester's document is empty or larger than
	// MaxDocumentSize.
	ReasonDocumentSize Reason = "document-size"
)

// Reasons about the answer. It is dropped, whatever it holds.
const (
	// ReasonPlaintextInAnswer: the answer holds a plaintext, which KMS never
	// sends to a recipient: the answer isn't to the request that was sent.
	ReasonPlaintextInAnswer Reason = "plaintext-in-answer"
	// ReasonNoEnvelope: the answer holds no envelope for the recipient.
	ReasonNoEnvelope Reason = "no-envelope"
	// ReasonAnswerKey: the answer is from a KMS key that isn't the one asked
	// for, or not a pinned one, or it doesn't say from which.
	ReasonAnswerKey Reason = "answer-key"
	// ReasonIncomplete: the answer of GenerateDataKey holds no CiphertextBlob, or
	// that of GenerateDataKeyPair no PrivateKeyCiphertextBlob or PublicKey.
	ReasonIncomplete Reason = "incomplete-answer"
	// ReasonEnvelope: the envelope can't be opened with the client's key.
	ReasonEnvelope Reason = "envelope"
	// ReasonPlaintextSize: the plaintext is empty or hasn't the size asked for.
	ReasonPlaintextSize Reason = "plaintext-size"
)

// Reasons why there is no answer.
const (
	// ReasonAccessDenied: KMS refuses, by the key's policy or the caller's.
	// A document with other PCRs than the policy demands ends here.
	ReasonAccessDenied Reason = "access-denied"
	// ReasonKMS: KMS answered with another error: errors.As finds the SDK's
	// type of it, or smithy.APIError for its code.
	ReasonKMS Reason = "kms-error"
	// ReasonChannel: no connection, no TLS, or no whole answer within the time
	// that an attempt has, from KMS or the instance metadata service.
	ReasonChannel Reason = "channel"
	// ReasonCredentials: the credentials provider failed, so that there was
	// nothing to sign with, and KMS wasn't asked. If the provider asks another
	// service, such as STS, errors.As finds that one's error.
	ReasonCredentials Reason = "credentials"
	// ReasonUnreadable: there is a whole answer, but not one of KMS's protocol,
	// or it is too long.
	ReasonUnreadable Reason = "unreadable-answer"
	// ReasonCanceled: the call's context ended first; the error wraps the
	// context's. If attempts had failed before, it wraps the error of the last
	// one too.
	ReasonCanceled Reason = "canceled"
)

// Error is the error of New, Attested, LoadConfig, ResolveAlias and of the five
// attested operations. The SDK puts its own *smithy.OperationError around it; errors.As finds both, and finds
// the SDK's errors beneath:
//
//	var e *kmsclient.Error
//	if errors.As(err, &e) && e.Reason == kmsclient.ReasonAccessDenied { … }
//	var disabled *types.DisabledException
//	if errors.As(err, &disabled) { … }
//
// With ReasonChannel, errors.Is finds neither context.DeadlineExceeded nor
// context.Canceled: whatever limit an attempt or a dialer has of its own, these
// two are the caller's.
//
// One of the SDK's errors stays as it is: the types.DryRunOperationException by
// which KMS says that a dry run would have succeeded. Other operations give the
// SDK's errors only, but for ReasonInvalidOptions, ReasonKeyNotPinned and
// ReasonEndpoint.
type Error struct {
	// Op is the operation, such as "Decrypt", or "New", "Attested", "LoadConfig"
	// or "ResolveAlias". Empty if credentials couldn't be renewed.
	Op string
	// Reason says which rule was broken.
	Reason Reason
	// KeyID is the KMS key at fault, if it is about one: as the caller wrote
	// it, or as KMS answered.
	KeyID string
	// Detail says what was found and what to do. It holds no secrets.
	Detail string
	// Err is the cause, or nil.
	Err error

	// Code, Message and RequestID are KMS's, if it answered with an error (the
	// reasons ReasonAccessDenied and ReasonKMS), such as "AccessDeniedException".
	// CloudTrail has the same request ID. Each may be empty. A message in which
	// KMS repeats the request lacks the session token; so does the text of Error,
	// but not that of the SDK's error beneath.
	Code, Message, RequestID string
	// PCRs are what KMS had to compare with the key policy, if it answered with
	// an error: those of the registers 0, 1, 2, 3, 4 and 8 that the document
	// of the last attempt has. Nil if that document can't be read. The text of
	// Error shortens them.
	PCRs map[int]attestation.PCR
	// Debug says that this document is of an enclave in debug mode: PCR0, PCR1
	// and PCR2 are zeros.
	Debug bool
	// ClockSkew is how far the enclave's clock is ahead of KMS's, by the Date
	// of an answer that is an error; negative if it is behind. 0 means less
	// than about 5 seconds, or not known. In whole seconds.
	ClockSkew time.Duration
}

// Error returns all that a person needs in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("kmsclient: ")
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	b.WriteString(string(e.Reason))
	if e.KeyID != "" {
		b.WriteString(" (key " + e.KeyID + ")")
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	// What others wrote, such as KMS's message, may have line breaks.
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, b.String())
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
