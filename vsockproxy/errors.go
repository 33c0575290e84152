package vsockproxy

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/keyvouch/keyvouch/internal/errtext"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

// A Reason says in one stable word why something failed, so that programs and
// alerts can branch on it without reading the message.
type Reason string

// Error returns the word itself, so that errors.Is(err, ReasonRefused) asks whether an
// [Error] has that Reason.
func (r Reason) Error() string { return string(r) }

// The reasons an [Error] can carry.
const (
	// ReasonInvalidEndpoint: the endpoint is malformed, empty, or cannot be used for
	// this operation (a wildcard CID cannot be dialed, for example).
	ReasonInvalidEndpoint Reason = "invalid-endpoint"
	// ReasonInvalidOptions: a field of Dialer or Proxy has a value that makes no sense.
	ReasonInvalidOptions Reason = "invalid-options"
	// ReasonPlaintext: the address given to a Dialer has port 80, the port of
	// HTTP without TLS.
	ReasonPlaintext Reason = "plaintext"
	// ReasonInvalidAllowlist: an allowlist entry is malformed, the list is empty, or its
	// file cannot be read.
	ReasonInvalidAllowlist Reason = "invalid-allowlist"
	// ReasonNotAllowed: the target is not on the allowlist, or not for who asks.
	ReasonNotAllowed Reason = "not-allowed"
	// ReasonForbiddenAddress: a name resolved only to addresses that a proxy
	// must not reach by name, such as loopback or instance metadata.
	ReasonForbiddenAddress Reason = "forbidden-address"
	// ReasonResolve: the target's name could not be resolved.
	ReasonResolve Reason = "resolve-failed"
	// ReasonUnsupported: this system has no AF_VSOCK. errors.Is(err,
	// errors.ErrUnsupported) holds too.
	ReasonUnsupported Reason = "unsupported"
	// ReasonRefused: the far end exists, but nothing listens there.
	ReasonRefused Reason = "refused"
	// ReasonUnreachable: there is no such far end: no such CID, no such socket
	// file, no route.
	ReasonUnreachable Reason = "unreachable"
	// ReasonTimeout: the far end did not answer in time.
	ReasonTimeout Reason = "timeout"
	// ReasonCanceled: the caller's context was canceled.
	ReasonCanceled Reason = "canceled"
	// ReasonPermission: the operating system denied access.
	ReasonPermission Reason = "permission"
	// ReasonInUse: another socket or file already has the address.
	ReasonInUse Reason = "address-in-use"
	// ReasonInvalidHandshake: the peer does not speak the hybrid vsock handshake, or
	// does not answer CONNECT as an HTTP proxy does.
	ReasonInvalidHandshake Reason = "invalid-handshake"
	// ReasonInvalidConnect: a CONNECT request, or the address to make one for, is
	// malformed.
	ReasonInvalidConnect Reason = "invalid-connect"
	// ReasonInvalidClientHello: a connection does not begin with a TLS ClientHello, or
	// with a malformed, unfinished or too long one.
	ReasonInvalidClientHello Reason = "invalid-client-hello"
	// ReasonNoServerName: the ClientHello names no server.
	ReasonNoServerName Reason = "no-server-name"
	// ReasonInvalidServerName: the server name in the ClientHello is not a DNS name as
	// TLS writes it: an IP address, one with a final dot, two names.
	ReasonInvalidServerName Reason = "invalid-server-name"
	// ReasonEncryptedHello: the ClientHello is an encrypted one (ECH), whose
	// server cannot be seen.
	ReasonEncryptedHello Reason = "encrypted-client-hello"
	// ReasonInvalidProxyHeader: a connection does not begin with a proper PROXY header of
	// version 2.
	ReasonInvalidProxyHeader Reason = "invalid-proxy-header"
	// ReasonLimit: the peer has as many connections open as it may.
	ReasonLimit Reason = "connection-limit"
	// ReasonListener: the listener of a Proxy was closed or broke for good.
	ReasonListener Reason = "listener-ended"
	// ReasonFailed: something else; Err has the system's answer.
	ReasonFailed Reason = "failed"
)

// Error is the error type of this package.
//
// It never contains bytes of a stream that is forwarded. What it may quote of a peer,
// with special characters escaped, is the target that a client names, the first three
// bytes of a client that does not speak TLS, a malformed answer to the hybrid handshake
// of at most 32 bytes, and a proxy's answer to CONNECT of at most 256 bytes.
type Error struct {
	// Op is the function or method that failed, such as "DialContext", "Listen" or
	// "Serve", which is also that of every connection that is served.
	Op string
	// Reason says which kind of failure it is.
	Reason Reason
	// Field is the place: the endpoint, a field such as "Proxy.Route", an entry of an
	// allowlist, or for a connection that is served "client" (what it says about where
	// it wants to go) or "target". It may be empty.
	Field string
	// Detail says what was wrong and what to do about it.
	Detail string
	// Err is the cause, or nil.
	Err error
	// Endpoint is the endpoint that the operation was about, or zero.
	Endpoint Endpoint
	// Remote says that Reason and Detail are the word of the proxy at Endpoint, in
	// answer to CONNECT. They help to find a fault and prove nothing.
	Remote bool
}

// Error returns one line: "vsockproxy: Op: reason: field: detail: cause".
func (e *Error) Error() string {
	field := e.Field
	if field == "" && !e.Endpoint.IsZero() {
		field = e.Endpoint.String()
	}
	return errtext.Join("vsockproxy", e.Op, string(e.Reason), field, e.Detail, e.Err)
}

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout reports whether the far end was too slow. Retry logic such as the
// AWS SDK's asks connection errors for this.
func (e *Error) Timeout() bool { return e.Reason == ReasonTimeout }

// reasonOf classifies an error from the operating system or a context. It
// returns ReasonFailed for what it does not know.
func reasonOf(err error) Reason {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return ReasonCanceled
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ReasonTimeout
	case errors.Is(err, fs.ErrNotExist):
		return ReasonUnreachable
	case errors.Is(err, fs.ErrPermission):
		return ReasonPermission
	case errors.Is(err, errors.ErrUnsupported):
		return ReasonUnsupported
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if r, ok := errnoReasons[errno]; ok {
			return r
		}
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsTimeout {
		return ReasonResolve
	}
	if errors.As(err, &timeout) && timeout.Timeout() {
		return ReasonTimeout
	}
	return ReasonFailed
}

// prefaceReasons are the Reasons for what a peer sends before its stream.
var prefaceReasons = map[preface.Kind]Reason{
	preface.Connect:        ReasonInvalidConnect,
	preface.ClientHello:    ReasonInvalidClientHello,
	preface.NoServerName:   ReasonNoServerName,
	preface.ServerName:     ReasonInvalidServerName,
	preface.EncryptedHello: ReasonEncryptedHello,
	preface.ProxyHeader:    ReasonInvalidProxyHeader,
	preface.Handshake:      ReasonInvalidHandshake,
	preface.Refused:        ReasonRefused,
}

// refusal returns the *Error for a *preface.Error, and any other error as it is.
func refusal(op, field string, err error) error {
	var said *preface.Error
	if !errors.As(err, &said) {
		return err
	}
	return &Error{Op: op, Reason: prefaceReasons[said.Kind], Field: field, Detail: said.Detail}
}
