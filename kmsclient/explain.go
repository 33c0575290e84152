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
	"syscall"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// explain puts a reason and a hint around an error of the SDK. It leaves alone
// what is explained already, and what says that a dry run succeeded.
func (c *call) explain(ctx context.Context, err error) error {
	var ours *Error
	var dryRun *types.DryRunOperationException
	if errors.As(err, &ours) || errors.As(err, &dryRun) {
		return err
	}
	ended := ctx.Err()
	if ended != nil && errors.Is(err, ended) {
		return c.canceled(err)
	}
	var provider noIdentity
	if errors.As(err, &provider) {
		return &Error{Op: c.op, Reason: ReasonCredentials, KeyID: c.requestedKey(), Detail: credentialsHint(provider), Err: err}
	}
	var canceled *smithy.CanceledError // of a context that a middleware made
	if errors.As(err, &canceled) {
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
	case errors.As(err, new(noIdentity)):
		e.Detail = "the context ended while the credentials were being renewed"
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

// credentialsHint says whose error it is, since it may look like one of KMS's.
func credentialsHint(provider noIdentity) string {
	var other *smithy.OperationError
	if !errors.As(provider, &other) {
		return "the credentials provider failed; KMS wasn't asked"
	}
	hint := fmt.Sprintf("the credentials provider failed at %s of %s; KMS wasn't asked", other.Operation(), other.Service())
	var api smithy.APIError
	if errors.As(other, &api) {
		switch api.ErrorCode() {
		case "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException":
			hint += "; the secret key is wrong, or the enclave's clock is"
		case "ExpiredToken", "ExpiredTokenException":
			hint += "; the credentials that it asks with have expired themselves"
		}
	}
	return hint
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
