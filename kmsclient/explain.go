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

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
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
		return &Error{Op: c.op, Reason: ReasonCredentials, Field: keyPlace(c.requestedKey()), KeyID: c.requestedKey(), Detail: provider.hint(), Err: err}
	}
	var canceled *smithy.CanceledError // of a context that a middleware made
	if errors.As(err, &canceled) {
		return c.canceled(err)
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		return c.last.refused(c.op, c.requestedKey(), api, err)
	}
	e := &Error{Op: c.op, Field: keyPlace(c.requestedKey()), KeyID: c.requestedKey(), Err: err}
	var send *smithyhttp.RequestSendError
	var unreadable *smithy.DeserializationError
	switch {
	case errors.As(err, &send) || errors.As(err, new(channel.Broken)):
		e.Reason, e.Detail = ReasonChannel, channelHint(err, c.last.progress.At())
	case errors.As(err, &unreadable):
		e.Reason, e.Detail = ReasonMalformedResponse, malformedHint(err)
	default:
		return err
	}
	return e
}

// canceled makes the error for a call whose context has ended. What was wrong
// before is of more use than that the time was up.
func (c *call) canceled(err error) *Error {
	e := &Error{Op: c.op, Reason: ReasonCanceled, Field: keyPlace(c.requestedKey()), KeyID: c.requestedKey(), Err: err}
	switch {
	case errors.As(err, new(noIdentity)):
		e.Detail = "the context ended while the credentials were being renewed"
	case c.attempts == 0:
		e.Detail = "the context ended before anything was sent"
	case c.failedAttempt == c.attempts:
		e.Detail = "the context ended in the pause before the next attempt"
	default:
		e.Detail = fmt.Sprintf("the context ended in attempt %d, %v", c.attempts, c.last.progress.At())
	}
	if c.failed != nil {
		e.Err = fmt.Errorf("%w; attempt %d: %w", err, c.failedAttempt, c.failed)
	}
	return e
}

// hints say what usually is behind an error code of KMS. KMS has no error of
// its own for a document that it does not accept.
var hints = map[string]string{
	"AccessDeniedException": "the key policy and the caller's IAM policy must allow this; " +
		"kms:RecipientAttestation:ImageSha384 and :PCR<n> in them must be the PCRs of this very image, in lower-case hex",
	"InvalidCiphertextException": "the ciphertext, its encryption context (which must be the same as for encryption, byte for byte) or its key is not the right one",
	"IncorrectKeyException":      "the ciphertext was made with another KMS key than the one sent",
	"ValidationException": "KMS does not accept the request; if it is about the attestation document, " +
		"the document may have expired on the way (check the enclave's clock) or not be from a real Nitro Security Module",
	"ThrottlingException":         "the account's quota of requests per second for KMS in this region is used up, perhaps by others in the account; aws.Config.Retryer can have more attempts and longer pauses",
	"UnrecognizedClientException": "KMS does not know these credentials, or not in this region; credentials of a role need their session token too",
	"ExpiredTokenException":       "the credentials have expired; an enclave cannot refresh them by itself, give it a credentials provider that can",
	"InvalidSignatureException":   "the secret key is wrong, or the enclave's clock is; an enclave's clock drifts unless something sets it",
}

func malformedHint(err error) string {
	var response *awshttp.ResponseError
	if !errors.As(err, &response) {
		return "the response is not one of KMS's"
	}
	hint := fmt.Sprintf("a response with status %d that is not one of KMS's", response.HTTPStatusCode())
	if response.HTTPStatusCode() >= http.StatusInternalServerError {
		hint += ": a load balancer's, perhaps, in front of a KMS that is out of order"
	}
	return hint
}

// channelHint says what usually is behind an error of the channel that ended an
// attempt in that channel.Phase.
func channelHint(err error, at channel.Phase) string {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &unknown):
		return "whoever responded is not KMS or is not certified by an accepted root: TLS must reach from the enclave to KMS, with nothing that ends it in between"
	case errors.As(err, &host):
		return "whoever responded has the certificate of another host: check that the parent forwards this connection to the endpoint's host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate is not valid at the enclave's clock: an enclave's clock drifts unless something sets it"
	case at == channel.Connecting:
		return "no connection: check that the parent's proxy runs and allows the endpoint's host"
	case errors.As(err, &notTLS):
		return "whoever responded does not speak TLS: check where the parent's proxy forwards this connection to"
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no response %v, though there is a connection: the parent's proxy or what is behind it holds it up", at)
	case at == channel.ShakingHands && cut(err):
		return "the connection ended in the TLS handshake: the parent's proxy runs, but does not reach the endpoint's host; its log says why"
	case at == channel.ShakingHands:
		return "no TLS with whoever responded: check that the parent forwards this connection to the endpoint's host"
	}
	return fmt.Sprintf("the connection ended %v: the parent's proxy was stopped or cut it, then its log says why, or KMS did", at)
}

// cut tells the end of a connection from what TLS has against the other side.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// reportedPCRs are the registers that key policies are written with: the
// image's, its application's and kernel's, the role's, the instance's, and the
// signer's. Those from 16 on are the program's own.
var reportedPCRs = []int{0, 1, 2, 3, 4, 8}

// attempt is what is known of a call's last attempt.
type attempt struct {
	document       []byte // as it was sent
	sent, received time.Time
	progress       *channel.Progress
}

// refused makes the error for an error response of KMS.
func (a attempt) refused(op, keyID string, api smithy.APIError, err error) *Error {
	e := &Error{Op: op, Reason: ReasonKMS, Field: keyPlace(keyID), KeyID: keyID, Code: api.ErrorCode(), Message: api.ErrorMessage(), Err: err}
	if e.Code == "AccessDeniedException" {
		e.Reason = ReasonAccessDenied
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		e.RequestID = response.RequestID
		if r := response.HTTPResponse(); r != nil {
			e.ClockSkew = a.skew(r.Header)
			if r.Request != nil {
				e.leaveOut(r.Request.Header.Get("X-Amz-Security-Token"))
			}
		}
	}
	if a.document == nil { // there was none to send
		e.Detail = joined(hintWithoutDocument(e), e.skewHint())
		return e
	}
	e.PCRs, e.Debug = a.pcrs()
	e.Detail = joined(hint(e), e.presented(), e.skewHint())
	return e
}

// leaveOut removes the session token from what the error says. KMS repeats the
// request in a message about its signature, token and all.
func (e *Error) leaveOut(token string) {
	if token == "" || !strings.Contains(e.Err.Error(), token) {
		return
	}
	e.Message = strings.ReplaceAll(e.Message, token, "(session token)")
	e.Err = retold{e.Err, strings.ReplaceAll(e.Err.Error(), token, "(session token)")}
}

// retold is an error with another text.
type retold struct {
	error
	text string
}

func (r retold) Error() string { return r.text }
func (r retold) Unwrap() error { return r.error }

// pcrs reads the document that was sent. KMS has judged it: this is to tell a
// person what there was to judge.
func (a attempt) pcrs() (pcrs map[int]attestation.PCR, debug bool) {
	document, err := attestation.ParseUnverified(a.document)
	if err != nil {
		return nil, false
	}
	pcrs = make(map[int]attestation.PCR, len(reportedPCRs))
	for _, i := range reportedPCRs {
		if value, ok := document.PCRs[i]; ok {
			pcrs[i] = value
		}
	}
	return pcrs, document.Debug()
}

// skew compares the clock with the Date of a response, which was set at some time
// between the request and the response. What the parent delays must not count as skew.
func (a attempt) skew(header http.Header) time.Duration {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || a.sent.IsZero() {
		return 0
	}
	switch ahead, behind := a.sent.Sub(date), date.Sub(a.received); {
	case ahead > tolerableSkew:
		return ahead.Round(time.Second)
	case behind > tolerableSkew:
		return -behind.Round(time.Second)
	}
	return 0
}

// hint says what usually is behind an error of KMS.
func hint(e *Error) string {
	if e.Debug && e.documentMatters() {
		return "this enclave runs in debug mode: the attestation document that was sent has zeros in PCR0, PCR1 and PCR2, " +
			"which the key policy for a real image refuses; start the enclave without debug mode"
	}
	return hints[e.Code]
}

// hintWithoutDocument is hint for a request that is not attested.
func hintWithoutDocument(e *Error) string {
	if e.Reason == ReasonAccessDenied {
		return "the key policy or the caller's IAM policy must allow kms:DescribeKey"
	}
	return hints[e.Code]
}

// documentMatters says that KMS may have refused for the sake of the document.
func (e *Error) documentMatters() bool {
	switch e.Code {
	case "AccessDeniedException":
		return true
	case "ValidationException":
		message := strings.ToLower(e.Message)
		return strings.Contains(message, "attestation") || strings.Contains(message, "recipient")
	}
	return false
}

// presented lists the registers in short: enough to compare by eye.
func (e *Error) presented() string {
	if !e.documentMatters() || e.Debug {
		return ""
	}
	if e.PCRs == nil {
		return "the attestation document that was sent cannot be read"
	}
	var b strings.Builder
	for _, i := range reportedPCRs {
		if value, ok := e.PCRs[i]; ok && !value.IsZero() {
			fmt.Fprintf(&b, " PCR%d %.12s…", i, value.String())
		}
	}
	if b.Len() == 0 {
		return "all PCRs that were sent are zeros"
	}
	return "sent were" + b.String()
}

func (e *Error) skewHint() string {
	switch {
	case e.ClockSkew > 0:
		return fmt.Sprintf("the enclave's clock is %v ahead of KMS's: set it", e.ClockSkew)
	case e.ClockSkew < 0:
		return fmt.Sprintf("the enclave's clock is %v behind KMS's: set it", -e.ClockSkew)
	}
	return ""
}

// joined leaves out what is empty.
func joined(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		if part != "" && b.Len() > 0 {
			b.WriteString("; ")
		}
		b.WriteString(part)
	}
	return b.String()
}
