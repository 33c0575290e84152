package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"
)

// SocketMode is the file mode of the Unix sockets that Listen creates: only the
// user that runs the proxy may connect. Change it after Listen to let others in.
const SocketMode fs.FileMode = 0o600

// staleCheckTimeout bounds the attempt to find out whether anybody answers on a
// socket file that is already there.
const staleCheckTimeout = time.Second

// lockSuffix makes the name of a socket's lock file. The file stays when the
// listener is closed: to remove a lock file is to let two processes hold the lock,
// one of the old file and one of the new.
const lockSuffix = ".lock"

// Listen starts listening on e. The context bounds Listen only, not the
// listener; with one that has ended, Listen fails. Errors are *Error.
//
// For a hybrid endpoint it creates the Unix socket, answers the CONNECT
// handshake itself, and hands over only connections that asked for e's port. A
// Unix socket, hybrid or plain, is created with SocketMode and removed on Close.
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
		return nil, &Error{Op: "listen", Endpoint: e, Reason: ReasonEndpoint, Detail: fmt.Sprintf("%v; %s", err, acceptedForms)}
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Op: "listen", Endpoint: e, Reason: reasonOf(err), Err: err}
	}
	var l net.Listener
	var err error
	switch e.kind {
	case kindVsock:
		l, err = listenVsock(e.cid, e.port)
	case kindHybrid:
		l, err = listenHybrid(ctx, e.where, e.port, handshakeTimeout)
	case kindUnix:
		l, err = listenUnix(ctx, e.where)
	case kindTCP:
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", e.where)
	}
	if err != nil {
		reason := reasonOf(err)
		if errors.Is(err, errPathTaken) {
			reason = ReasonInUse
		}
		return nil, &Error{Op: "listen", Endpoint: e, Reason: reason, Detail: listenAdvice(e, reason), Err: err}
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

// errPathTaken: there is something at the socket path that Listen must not remove.
var errPathTaken = errors.New("the path is taken")

// unixListener removes its socket file on Close, but only while the file is
// still its own: another process may have replaced it.
type unixListener struct {
	*net.UnixListener
	path string
	file os.FileInfo

	close    sync.Once
	closeErr error
}

func listenUnix(ctx context.Context, path string) (*unixListener, error) {
	unlock, err := lockSocketPath(path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: restrictSocket}
	inner, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l := &unixListener{UnixListener: inner.(*net.UnixListener), path: path}
	// Linux has set the mode before the file existed (restrictSocket); elsewhere
	// this is the first chance.
	err = os.Chmod(path, SocketMode)
	if err == nil {
		l.file, err = os.Lstat(path)
	}
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// removeStale removes the file at path if it is a socket that nobody answers on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: %s is not a socket (%v), so it is not removed", errPathTaken, path, info.Mode().Type())
	}
	checkCtx, cancel := context.WithTimeout(ctx, staleCheckTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(checkCtx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%w: a process answers on %s", errPathTaken, path)
	}
	reason := reasonOf(err)
	if reason == ReasonRefused {
		err = os.Remove(path)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist): // its owner may just have removed it
		return nil
	case reason == ReasonRefused, reason == ReasonPermission:
		return fmt.Errorf("%s is in the way: %w", path, err)
	case ctx.Err() != nil:
		return fmt.Errorf("while checking whether a process answers on %s: %w", path, ctx.Err())
	}
	return fmt.Errorf("%w: cannot tell whether a process answers on %s: %w", errPathTaken, path, err)
}

// Close stops listening and removes the socket file. Connections that were
// accepted live on.
func (l *unixListener) Close() error {
	l.close.Do(func() {
		// The file goes first: once the socket is closed, another process may
		// take the file for stale and put its own there.
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.file) {
			_ = os.Remove(l.path)
		}
		l.closeErr = l.UnixListener.Close()
	})
	return l.closeErr
}
