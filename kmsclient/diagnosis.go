package kmsclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/attestation"
)

// reportedPCRs are the registers that key policies are written with: the
// image's, its application's and kernel's, the role's, the instance's, and the
// signer's. Those from 16 on are the program's own.
var reportedPCRs = []int{0, 1, 2, 3, 4, 8}

// tolerableSkew is what a clock may be off before an error mentions it. The
// Date header has whole seconds.
const tolerableSkew = 5 * time.Second

// attempt is what is known of a call's last attempt.
type attempt struct {
	document       []byte // as it was sent
	attested       time.Time
	sent, answered time.Time
	progress       *progress
}

// refused makes the error for an answer of KMS's that is one.
func (a attempt) refused(op, keyID string, answer smithy.APIError, err error) *Error {
	e := &Error{Op: op, Reason: ReasonKMS, KeyID: keyID, Code: answer.ErrorCode(), Message: answer.ErrorMessage(), Err: err}
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

// skew compares the clock with the Date of an answer, which was set at some
// time between the request and the answer. What the parent delays must not
// count as skew.
func (a attempt) skew(header http.Header) time.Duration {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil || a.sent.IsZero() {
		return 0
	}
	switch ahead, behind := a.sent.Sub(date), date.Sub(a.answered); {
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

// hintWithoutDocument is hint for a request that isn't attested.
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
		return "the attestation document that was sent can't be read"
	}
	var b strings.Builder
	for _, i := range reportedPCRs {
		if value, ok := e.PCRs[i]; ok && !value.IsZero() {
			fmt.Fprintf(&b, " PCR%d %.12s…", i, value)
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
