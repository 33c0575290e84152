package unixsock

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// The lock file is created where it is named, and nowhere that a link points to.
func TestLockFollowsNoLink(t *testing.T) {
	path := conntest.SocketPath(t)
	unlock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if os.Remove(path+LockSuffix) != nil {
		t.Skip("this system has no flock")
	}
	elsewhere := path + ".elsewhere"
	if err := os.Symlink(elsewhere, path+LockSuffix); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(t.Context(), path); err == nil {
		_ = l.Close()
		t.Error("Listen followed a link")
	}
	if _, err := os.Lstat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that the link names: %v, want none", err)
	}
}

// The context may also end while Listen looks whether a socket is stale.
func TestStaleCheckEndedContext(t *testing.T) {
	path := conntest.SocketPath(t)
	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := removeStale(ctx, path); !errors.Is(err, context.Canceled) || errors.Is(err, ErrPathTaken) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	if err := removeStale(t.Context(), path); err != nil {
		t.Errorf("the stale socket: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the stale socket: %v, want none", err)
	}
}
