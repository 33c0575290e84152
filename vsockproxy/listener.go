package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/unixsock"
)

// Listen starts listening on e. The context bounds Listen only, not the
// listener; with one that has ended, Listen fails. Errors are *Error.
//
// For a hybrid endpoint it creates the Unix socket, answers the CONNECT
// handshake itself, and hands over only connections that asked for e's port. A
// Unix socket, hybrid or plain, is created with the file mode 0600 and removed on Close.
// A socket file left behind by a process that died is replaced; anything else at
// that path is left alone and is an error.
//
// Of several Listen calls for one path, in one process or many, one succeeds and
// the others fail with [ReasonInUse]. To that end Listen creates an empty file
// beside the socket, with ".lock" appended to its path, locks it by flock(2) while
// it works, and leaves it there. A program that puts its socket at the path in the
// same moment without that lock may lose it, as may another Listen on Windows,
// Solaris and AIX, which have no flock.
//
// Connections from the listener have CloseWrite() error.
func Listen(ctx context.Context, e Endpoint) (net.Listener, error) {
	if err := e.check(); err != nil {
		return nil, &Error{Op: "Listen", Endpoint: e, Reason: ReasonInvalidEndpoint, Detail: fmt.Sprintf("%v; %s", err, acceptedForms)}
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Op: "Listen", Endpoint: e, Reason: reasonOf(err), Err: err}
	}
	var l net.Listener
	var err error
	switch e.kind {
	case kindVsock:
		l, err = listenVsock(e.cid, e.port)
	case kindHybrid:
		l, err = listenHybrid(ctx, e.where, e.port, handshakeTimeout)
	case kindUnix:
		l, err = unixsock.Listen(ctx, e.where)
	case kindTCP:
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", e.where)
	}
	if err != nil {
		reason := reasonOf(err)
		if errors.Is(err, unixsock.ErrPathTaken) {
			reason = ReasonInUse
		}
		return nil, &Error{Op: "Listen", Endpoint: e, Reason: reason, Detail: listenAdvice(e, reason), Err: err}
	}
	return l, nil
}

func listenAdvice(e Endpoint, reason Reason) string {
	switch reason {
	case ReasonInUse:
		return "something else has this address; is another proxy running?"
	case ReasonPermission:
		switch e.kind {
		case kindVsock:
			return "the system denies it; ports below 1024 need CAP_NET_BIND_SERVICE, and container runtimes block AF_VSOCK by seccomp unless told otherwise"
		case kindHybrid, kindUnix:
			return "this process may not create files in that directory, or may not use the socket or the lock file that is there; did another user run the proxy before?"
		}
		return "ports below 1024 may need privileges"
	case ReasonUnreachable:
		switch e.kind {
		case kindVsock:
			return fmt.Sprintf("context ID %d is not one of this machine's; to listen on all of them, write vsock://any:%d", e.cid, e.port)
		case kindHybrid, kindUnix:
			return "the directory of that path does not exist"
		}
		return "the address is not one of this machine's"
	case ReasonUnsupported:
		if e.kind == kindVsock {
			return "this system has no AF_VSOCK; use a hybrid, unix or tcp endpoint"
		}
	}
	return ""
}
