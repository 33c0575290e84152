//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package unixsock

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Lock makes this process the only one that may create or replace the
// socket at path, until unlock. It does not wait: whoever has the lock is about
// to take the path. The kernel drops the lock of a process that dies.
func Lock(path string) (unlock func(), err error) {
	name := path + LockSuffix
	// No link is followed, so that nobody can choose which file is created.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, Mode)
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: a process that has locked %s is taking it", ErrPathTaken, name)
		}
		return nil, &os.PathError{Op: "flock", Path: name, Err: err}
	}
	return func() {
		// Closing alone leaves the lock to a child that is between fork and exec.
		_ = flock(f, syscall.LOCK_UN)
		_ = f.Close()
	}, nil
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
