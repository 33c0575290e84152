package unixsock

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

// Mode is the file mode of the sockets: only the user that runs the program may
// connect.
const Mode fs.FileMode = 0o600

// staleCheckTimeout bounds the attempt to find out whether anybody answers on a
// socket file that is already there.
const staleCheckTimeout = time.Second

// LockSuffix makes the name of a socket's lock file. The file stays when the
// listener is closed. Removing it would let two processes hold the lock, one of the old
// file and one of the new.
const LockSuffix = ".lock"

// ErrPathTaken says that there is something at the path that must not be removed, or
// that another process is taking it.
var ErrPathTaken = errors.New("the path is taken")

// Listener removes its socket file on Close, but only while the file is still its own:
// another process may have replaced it.
type Listener struct {
	*net.UnixListener
	path string
	file os.FileInfo

	close    sync.Once
	closeErr error
}

// Listen listens on a socket that it creates at path with [Mode]. It replaces a socket
// on which nobody answers. The error wraps [ErrPathTaken] or is the system's. The
// context bounds Listen, not the listener.
func Listen(ctx context.Context, path string) (*Listener, error) {
	unlock, err := Lock(path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: restrict}
	inner, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l := &Listener{UnixListener: inner.(*net.UnixListener), path: path}
	// Linux has set the mode before the file existed (restrict). Elsewhere this is the
	// first chance.
	err = os.Chmod(path, Mode)
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
		return fmt.Errorf("%w: %s is not a socket (%v), so it is not removed", ErrPathTaken, path, info.Mode().Type())
	}
	checkCtx, cancel := context.WithTimeout(ctx, staleCheckTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(checkCtx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%w: a process answers on %s", ErrPathTaken, path)
	}
	nobody := errors.Is(err, refused)
	if nobody {
		err = os.Remove(path)
	}
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist): // its owner may just have removed it
		return nil
	case nobody, errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s is in the way: %w", path, err)
	case ctx.Err() != nil:
		return fmt.Errorf("while checking whether a process answers on %s: %w", path, ctx.Err())
	}
	return fmt.Errorf("%w: cannot tell whether a process answers on %s: %w", ErrPathTaken, path, err)
}

// Close stops listening and removes the socket file. Connections that were accepted
// live on.
func (l *Listener) Close() error {
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
