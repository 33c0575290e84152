package channel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Final wraps an error that another attempt does not mend. The SDK's retryers ask for
// RetryableError first. Without it they would take an errno beneath, such as the
// ETIMEDOUT of an NSM that was given two minutes, for one of the network, and any
// failure of TLS for one of the connection.
type Final struct{ Err error }

func (f Final) Error() string      { return f.Err.Error() }
func (f Final) Unwrap() error      { return f.Err }
func (Final) RetryableError() bool { return false }

// finalIfCertificate makes a failed verification of the endpoint's certificate final.
// Another host or a wrong clock is the same in a second, and a connection that was
// diverted is no reason to wait.
func finalIfCertificate(err error) error {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return Final{err}
	}
	return err
}

// TooSlow ends an attempt that took its whole time.
type TooSlow struct{ After time.Duration }

func (e TooSlow) Error() string { return fmt.Sprintf("no whole response within %v", e.After) }

// Timeout is what the SDK's retryers ask for.
func (TooSlow) Timeout() bool { return true }

// tooSlow returns err, or the TooSlow behind it if the attempt's time was over.
func tooSlow(attempt context.Context, err error) error {
	if cause, ok := context.Cause(attempt).(TooSlow); ok {
		return cause
	}
	return err
}

// Broken is an error of the channel that is not the end of the caller's context.
// Errors of dialers, sockets and the transport often pass for
// context.DeadlineExceeded, whatever deadline it was. errors.As finds all that is
// beneath; errors.Is finds all but the errors of contexts.
//
// Again says whether the SDK's retryers, which ask for ConnectionError, may try
// again. What breaks before the response they try again in any case. When the body of
// the response breaks, the operation has been carried out. Repeating it is harmless
// only for operations that change nothing in KMS: the attested ones.
type Broken struct {
	Err   error
	Again bool
}

func (b Broken) Error() string         { return b.Err.Error() }
func (b Broken) ConnectionError() bool { return b.Again }
func (b Broken) As(target any) bool    { return errors.As(b.Err, target) }
func (b Broken) Is(target error) bool {
	return target != context.DeadlineExceeded && target != context.Canceled && errors.Is(b.Err, target)
}

// Timeout reports whether it was too slow, for url.Error, which asks only the error
// that it wraps itself.
func (b Broken) Timeout() bool {
	var timeout interface{ Timeout() bool }
	return errors.As(b.Err, &timeout) && timeout.Timeout()
}
