package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// Dialer connects to the parent's proxy from inside the enclave. Set its
// DialContext as that of an http.Transport, or of anything else that speaks TLS
// over a net.Conn.
//
// An http.Transport speaks TLS for https URLs only, and an http.Client follows
// redirects from https to http. With port 80 DialContext refuses that; for http
// URLs with another port, set http.Client.CheckRedirect.
//
// A Dialer may be used by several goroutines at once, as long as nobody changes
// its fields meanwhile.
type Dialer struct {
	// Endpoint is where the proxy listens; in a Nitro enclave
	// Vsock(ParentCID, port).
	Endpoint Endpoint

	// Timeout bounds one DialContext, handshake included. Zero means
	// 10 seconds, or 15 if Connect is set, so that a proxy that gives up on a target
	// after its own 10 can still say so; a negative
	// value is an error. An earlier deadline of the context wins.
	Timeout time.Duration

	// Connect asks the proxy for the address given to DialContext, by HTTP
	// CONNECT: for a Proxy with a [Connect] route, or another proxy that speaks
	// it.
	Connect bool
}

// DialContext connects to d.Endpoint, whatever network and address say: the
// parent forwards every connection to its one fixed target, and the enclave cannot
// resolve names. What makes the far end the right one is TLS, which must run
// inside the enclave and verify the name in address; http.Transport does that for
// https URLs.
//
// With d.Connect the parent is asked for address, "host:port" with a number for a
// port, and DialContext returns when the parent says that it has reached it.
// Otherwise it returns an error with Remote set, whose Reason and Detail are the
// proxy's: [ReasonNotAllowed], [ReasonResolve], [ReasonForbiddenAddress],
// [ReasonRefused], [ReasonUnreachable], [ReasonTimeout] and so on. They help to
// find a fault and prove nothing, because the parent can say what it likes. An
// address that is not host:port fails with [ReasonInvalidConnect].
//
// An address with port 80 ("http") is refused with [ReasonPlaintext], before
// anything is dialed. It means that an HTTP client follows an http URL, perhaps
// one that a redirect gave it, and would show request and answer to the parent,
// which could change both. That is a safety net for the usual mistake and no more:
// a Dialer cannot see whether TLS follows on other ports, or where address is
// empty or has no port.
//
// The connection has deadlines, as every net.Conn, and CloseWrite() error, which
// ends one direction and leaves the other open. Canceling ctx after DialContext
// has returned has no effect on it. Errors are *Error.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	timeout, asked, bad := d.check(address)
	if bad != nil {
		return nil, bad
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	e := d.Endpoint
	var conn net.Conn
	var err error
	switch e.kind {
	case kindVsock:
		conn, err = dialVsock(ctx, e.cid, e.port)
	case kindHybrid:
		conn, err = dialHybrid(ctx, e.where, e.port)
	case kindUnix:
		conn, err = new(net.Dialer).DialContext(ctx, "unix", e.where)
	case kindTCP:
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", e.where)
	}
	if err != nil {
		return nil, dialError(ctx, e, err)
	}
	if !d.Connect {
		return conn, nil
	}
	if err := handshake(ctx, conn, func() error { return askToConnect(conn, asked) }); err != nil {
		_ = conn.Close()
		return nil, connectError(ctx, e, asked, err)
	}
	return conn, nil
}

// check says what is wrong before anything is dialed, and else how long dialing
// may take, and what the proxy will be asked for.
func (d *Dialer) check(address string) (timeout time.Duration, asked rules.Target, bad *Error) {
	fail := func(reason Reason, format string, args ...any) (time.Duration, rules.Target, *Error) {
		return 0, rules.Target{}, &Error{Op: "DialContext", Endpoint: d.Endpoint, Reason: reason, Detail: fmt.Sprintf(format, args...)}
	}
	usual := defaultDialTimeout
	if d.Connect {
		usual = defaultConnectTimeout
	}
	timeout, err := durationOr("Dialer.Timeout", d.Timeout, usual)
	if err != nil {
		return fail(ReasonInvalidOptions, "%v", err)
	}
	if err := d.Endpoint.checkDial(); err != nil {
		return fail(ReasonInvalidEndpoint, "%v; %s", err, acceptedForms)
	}
	if isPlainHTTP(address) {
		return fail(ReasonPlaintext, "%q is a port for HTTP without TLS, which the parent could read and change; use an https URL, and do not follow redirects to http", address)
	}
	if d.Connect {
		if asked, err = rules.ParseTarget(address); err != nil {
			return fail(ReasonInvalidConnect, "%v", err)
		}
	}
	return timeout, asked, nil
}

// connectError completes an error about the proxy's answer, or makes one for an
// answer that did not come.
func connectError(ctx context.Context, e Endpoint, asked rules.Target, err error) error {
	var said *Error
	if errors.As(refusal("DialContext", "", err), &said) {
		said.Endpoint = e
		return said
	}
	failed := dialError(ctx, e, err)
	failed.Detail = fmt.Sprintf("the proxy has taken the connection, and not said whether it reaches %v", asked)
	return failed
}

// isPlainHTTP reports whether address has the port that http URLs stand for.
func isPlainHTTP(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if strings.EqualFold(port, "http") {
		return true
	}
	n, err := strconv.Atoi(port) // reads 080 and +80 too, as net.Dial does
	return err == nil && n == 80
}

// dialError turns err into an *Error that says what to do.
func dialError(ctx context.Context, e Endpoint, err error) *Error {
	reason := reasonOf(err)
	var said *preface.Error
	if errors.As(err, &said) {
		reason = prefaceReasons[said.Kind]
	}
	// A context that ended closes the connection or moves its deadline, and
	// what then fails says "timeout" or "closed", not why.
	switch ctx.Err() {
	case context.Canceled:
		reason = ReasonCanceled
	case context.DeadlineExceeded:
		reason = ReasonTimeout
	}
	return &Error{Op: "DialContext", Endpoint: e, Reason: reason, Detail: dialAdvice(e, reason), Err: err}
}

func dialAdvice(e Endpoint, reason Reason) string {
	switch reason {
	case ReasonRefused:
		switch e.kind {
		case kindVsock:
			return fmt.Sprintf("nothing accepts on port %d of context ID %d; is the parent's proxy running, and on that port?", e.port, e.cid)
		case kindHybrid:
			return fmt.Sprintf("nothing accepts on vsock port %d behind that socket; is the listener running, and on that port?", e.port)
		}
		return "nothing accepts there, or the connection was cut at once; is the proxy running, and what does its log say?"
	case ReasonUnreachable:
		switch e.kind {
		case kindVsock:
			if e.cid != ParentCID {
				return fmt.Sprintf("this machine has no route to context ID %d; a Nitro enclave reaches its parent at %d", e.cid, ParentCID)
			}
			return fmt.Sprintf("this machine has no route to context ID %d; outside a Nitro enclave there is no parent, use a hybrid, unix or tcp endpoint", e.cid)
		case kindHybrid, kindUnix:
			return "there is no socket at that path; is the proxy running, and is its directory shared with this process?"
		}
		return "there is no route to that address"
	case ReasonTimeout:
		return "no answer in time; is the proxy stuck or at its connection limit?"
	case ReasonPermission:
		if e.kind == kindVsock {
			return "the system denies AF_VSOCK to this process; container runtimes block it by seccomp unless told otherwise"
		}
		return "this process may not write to the socket; the proxy creates it for its own user only"
	case ReasonUnsupported:
		return "this system has no AF_VSOCK; use a hybrid, unix or tcp endpoint"
	case ReasonInvalidHandshake:
		return "the peer does not answer CONNECT with OK; is the endpoint plain unix rather than hybrid?"
	}
	return ""
}

// durationOr returns v, or the default where v is zero.
func durationOr(name string, v, def time.Duration) (time.Duration, error) {
	switch {
	case v < 0:
		return 0, fmt.Errorf("%s is negative (%v); zero means the default of %v", name, v, def)
	case v == 0:
		return def, nil
	}
	return v, nil
}
