package kmsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
	"unicode"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyvouch/keyvouch/attestation"
)

// Reason names the rule that a call broke. The strings are stable: log them,
// count them, compare them.
type Reason string

// Reasons that are the caller's own mistakes. Nothing was sent.
const (
	// ReasonInvalidOptions: New or Attested was given options that can't be
	// meant, or a call is for a region in which no pinned key is.
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
	// ReasonAttestation: the attester failed.
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
	// ReasonUnreadable: there is a whole answer, but not one of KMS's protocol,
	// or it is too long.
	ReasonUnreadable Reason = "unreadable-answer"
	// ReasonCanceled: the call's context ended first; the error wraps the
	// context's. If attempts had failed before, it wraps the error of the last
	// one too.
	ReasonCanceled Reason = "canceled"
)

// Error is the error of New, Attested, LoadConfig and of the five attested operations. The SDK puts
// its own *smithy.OperationError around it; errors.As finds both, and finds
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
// The SDK's errors stay as they are where nothing is to be added: credentials
// that can't be had, and the types.DryRunOperationException by which KMS says
// that a dry run would have succeeded. Other operations give the SDK's errors
// only, but for ReasonInvalidOptions, ReasonKeyNotPinned and ReasonEndpoint.
type Error struct {
	// Op is the operation, such as "Decrypt", or "New", "Attested" or
	// "LoadConfig". Empty if credentials couldn't be renewed.
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
	// CloudTrail has the same request ID. Each may be empty.
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

// explain puts a reason and a hint around an error of the SDK. It leaves alone
// what is explained already, what says that a dry run succeeded, and what
// comes of neither KMS, the channel nor the caller's context: a missing
// credential.
func (c *call) explain(ctx context.Context, err error) error {
	var ours *Error
	var dryRun *types.DryRunOperationException
	if errors.As(err, &ours) || errors.As(err, &dryRun) {
		return err
	}
	var canceled *smithy.CanceledError // also for a context that a middleware made
	if ended := ctx.Err(); errors.As(err, &canceled) || ended != nil && errors.Is(err, ended) {
		return c.canceled(err)
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return c.last.refused(c.op, c.requestedKey(), api, err)
	}
	e := &Error{Op: c.op, KeyID: c.requestedKey(), Err: err}
	var send *smithyhttp.RequestSendError
	var unreadable *smithy.DeserializationError
	switch {
	case errors.As(err, &send) || errors.As(err, new(broken)):
		e.Reason, e.Detail = ReasonChannel, channelHint(err, c.last.progress.at())
	case errors.As(err, &unreadable):
		e.Reason, e.Detail = ReasonUnreadable, unreadableHint(err)
	default:
		return err
	}
	return e
}

// canceled makes the error for a call whose context has ended. What was wrong
// before is of more use than that the time was up.
func (c *call) canceled(err error) *Error {
	e := &Error{Op: c.op, Reason: ReasonCanceled, KeyID: c.requestedKey(), Err: err}
	switch {
	case c.attempts == 0:
		e.Detail = "the context ended before anything was sent"
	case c.failedAttempt == c.attempts:
		e.Detail = "the context ended in the pause before the next attempt"
	default:
		e.Detail = fmt.Sprintf("the context ended in attempt %d, %v", c.attempts, c.last.progress.at())
	}
	if c.failed != nil {
		e.Err = fmt.Errorf("%w; attempt %d: %w", err, c.failedAttempt, c.failed)
	}
	return e
}

// hints say what usually is behind an error code of KMS. KMS has no error of
// its own for a document that it doesn't accept.
var hints = map[string]string{
	"AccessDeniedException": "the key policy and the caller's IAM policy must allow this; " +
		"kms:RecipientAttestation:ImageSha384 and :PCR<n> in them must be the PCRs of this very image, in lower-case hex",
	"InvalidCiphertextException": "the ciphertext, its encryption context (which must be the same as for encryption, byte for byte) or its key isn't the right one",
	"IncorrectKeyException":      "the ciphertext was made with another KMS key than the one sent",
	"ValidationException": "KMS doesn't accept the request; if it is about the attestation document, " +
		"the document may have expired on the way (check the enclave's clock) or not be from a real Nitro Security Module",
	"ThrottlingException":         "the account's quota of requests per second for KMS in this region is used up, perhaps by others in the account; aws.Config.Retryer can have more attempts and longer pauses",
	"UnrecognizedClientException": "KMS doesn't know these credentials, or not in this region; credentials of a role need their session token too",
	"ExpiredTokenException":       "the credentials have expired; an enclave can't refresh them by itself, give it a credentials provider that can",
	"InvalidSignatureException":   "the secret key is wrong, or the enclave's clock is; an enclave's clock drifts unless something sets it",
}

func unreadableHint(err error) string {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return "the answer isn't one of KMS's"
	}
	hint := fmt.Sprintf("an answer with status %d that isn't one of KMS's", response.HTTPStatusCode())
	if response.HTTPStatusCode() >= http.StatusInternalServerError {
		hint += ": a load balancer's, perhaps, in front of a KMS that is out of order"
	}
	return hint
}

// channelHint says what usually is behind an error of the channel that ended an
// attempt in that phase.
func channelHint(err error, at phase) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &unknown):
		return "whoever answered isn't KMS or isn't certified by an accepted root: TLS must reach from the enclave to KMS, with nothing that ends it in between"
	case errors.As(err, &host):
		return "whoever answered has the certificate of another host: check that the parent forwards this connection to the endpoint's host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate isn't valid at the enclave's clock: an enclave's clock drifts unless something sets it"
	case at == connecting:
		return "no connection: check that the parent's proxy runs and allows the endpoint's host"
	case errors.As(err, &notTLS):
		return "whoever answered doesn't speak TLS: check where the parent's proxy forwards this connection to"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer %v, though there is a connection: the parent's proxy or what is behind it holds it up", at)
	case at == shakingHands && cut(err):
		return "the connection ended in the TLS handshake: the parent's proxy runs, but doesn't reach the endpoint's host; its log says why"
	case at == shakingHands:
		return "no TLS with whoever answered: check that the parent forwards this connection to the endpoint's host"
	}
	return fmt.Sprintf("the connection ended %v: the parent's proxy was stopped or cut it, then its log says why, or KMS did", at)
}

// cut tells the end of a connection from what TLS has against the other side.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
