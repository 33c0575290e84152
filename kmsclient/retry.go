package kmsclient

import (
	"crypto/tls"
	"errors"
)

// final is an error that another attempt can't mend: the SDK's retryers ask
// errors for RetryableError first, and would otherwise take an errno beneath,
// such as the ETIMEDOUT of an NSM that was given two minutes, for one of the
// network, and any failure of TLS for one of the connection.
type final struct{ error }

func (f final) Unwrap() error      { return f.error }
func (final) RetryableError() bool { return false }

// finalIfCertificate makes a failed verification of the endpoint's certificate
// final. Whatever it is, another host or a wrong clock, it will be so in a
// second, and a connection that was diverted is no reason to wait.
func finalIfCertificate(err error) error {
	var verification *tls.CertificateVerificationError
	if errors.As(err, &verification) {
		return final{err}
	}
	return err
}
