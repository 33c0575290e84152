package vsockproxy

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/unixsock"
)

func vsockPort(t *testing.T, l net.Listener) uint32 {
	t.Helper()
	return l.Addr().(*vsock.Addr).Port
}

func eachSocketFile(t *testing.T, test func(t *testing.T, at func(path string) Endpoint)) {
	t.Run("unix", func(t *testing.T) { test(t, Unix) })
	t.Run("hybrid", func(t *testing.T) {
		test(t, func(path string) Endpoint { return HybridVsock(path, 8000) })
	})
}

func TestSocketFile(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := conntest.SocketPath(t)
		l := mustListen(t, at(path))
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != fs.ModeSocket|unixsock.Mode {
			t.Errorf("mode %v, %v; want a socket with %v", info.Mode(), err, unixsock.Mode)
		}
		for range 2 {
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Close: %v, want no file", err)
		}
	})
}

func TestStaleSocketIsReplaced(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		mustListen(t, at(leaveStaleSocket(t)))
	})
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := conntest.SocketPath(t)
		first := mustListen(t, at(path))
		_, err := Listen(t.Context(), at(path))
		wantReason(t, err, ReasonInUse)
		if conn, err := net.Dial(first.Addr().Network(), path); err != nil {
			t.Errorf("the first listener is gone: %v", err)
		} else {
			_ = conn.Close()
		}
	})
}

// Whoever finds a stale socket must not remove the one that another Listen has
// meanwhile put in its place.
func TestListenRaces(t *testing.T) {
	needSocketLock(t)
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		for _, stale := range []bool{true, false} {
			for range 300 {
				path := conntest.SocketPath(t)
				if stale {
					path = leaveStaleSocket(t)
				}
				var ls [3]net.Listener
				var errs [len(ls)]error
				var racing sync.WaitGroup
				for i := range ls {
					racing.Go(func() { ls[i], errs[i] = Listen(context.Background(), at(path)) })
				}
				racing.Wait()
				won := 0
				for i, l := range ls {
					if l == nil {
						wantReason(t, errs[i], ReasonInUse)
						continue
					}
					won++
					if conn, err := net.Dial("unix", path); err != nil {
						t.Errorf("nobody answers: %v", err)
					} else {
						_ = conn.Close()
					}
					_ = l.Close()
				}
				if won != 1 {
					t.Fatalf("%d of %d Listen calls succeeded on one path; want 1", won, len(ls))
				}
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("after Close: %v, want no file", err)
				}
			}
		}
	})
}

// What another Listen is working on is not touched, however stale it looks.
func TestLockedSocketIsLeftAlone(t *testing.T) {
	needSocketLock(t)
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := leaveStaleSocket(t)
		unlock, err := unixsock.Lock(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Listen(t.Context(), at(path))
		wantReason(t, err, ReasonInUse)
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the socket was removed: %v", err)
		}
		unlock()
		mustListen(t, at(path))
		info, err := os.Lstat(path + unixsock.LockSuffix)
		if err != nil || info.Mode() != unixsock.Mode || info.Size() != 0 {
			t.Errorf("the lock file is %v, %v; want an empty file with mode %v", info, err, unixsock.Mode)
		}
	})
}

func needSocketLock(t *testing.T) {
	t.Helper()
	path := conntest.SocketPath(t)
	unlock, err := unixsock.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Lstat(path + unixsock.LockSuffix); err != nil {
		t.Skip("this system has no flock")
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := conntest.SocketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Listen(t.Context(), at(path))
		wantReason(t, err, ReasonInUse)
		// Not even through a link to a stale socket.
		link := path + ".link"
		if err := os.Symlink(leaveStaleSocket(t), link); err != nil {
			t.Fatal(err)
		}
		_, err = Listen(t.Context(), at(link))
		wantReason(t, err, ReasonInUse)
		if b, err := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("the file is now %q, %v", b, err)
		}
	})
}

// Close removes only the file that its listener made.
func TestReplacedSocketIsLeftAlone(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := conntest.SocketPath(t)
		first := mustListen(t, at(path))
		// Keep the first file's inode in use, so that it cannot be given again.
		if err := os.Link(path, path+".old"); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		mustListen(t, at(path))
		_ = first.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the second listener's file: %v", err)
		}
	})
}

func TestListenEndedContext(t *testing.T) {
	stale := leaveStaleSocket(t)
	past, cancelPast := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancelPast()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, e := range []Endpoint{
		TCP("127.0.0.1:0"), Vsock(AnyCID, 0),
		Unix(conntest.SocketPath(t)), HybridVsock(conntest.SocketPath(t), 8000),
		Unix(stale), HybridVsock(stale, 8000),
	} {
		for _, test := range []struct {
			ctx    context.Context
			reason Reason
		}{{canceled, ReasonCanceled}, {past, ReasonTimeout}} {
			l, err := Listen(test.ctx, e)
			if l != nil {
				_ = l.Close()
				t.Errorf("%v: a listener in spite of the context", e)
			}
			if e := wantReason(t, err, test.reason); !errors.Is(e, test.ctx.Err()) {
				t.Errorf("%v is not %v", e, test.ctx.Err())
			}
		}
	}
	if _, err := os.Lstat(stale); err != nil {
		t.Errorf("the stale socket: %v", err)
	}
}

func TestListenErrors(t *testing.T) {
	tcp := mustListen(t, TCP("127.0.0.1:0"))
	for _, test := range []struct {
		name     string
		endpoint Endpoint
		reason   Reason
	}{
		{"zero", Endpoint{}, ReasonInvalidEndpoint},
		{"hybrid port 0", HybridVsock("/run/v.sock", 0), ReasonInvalidEndpoint},
		{"any port by number", Vsock(AnyCID, portAny), ReasonInvalidEndpoint},
		{"no directory", Unix("/nonexistent/directory/p.sock"), ReasonUnreachable},
		{"hybrid without directory", HybridVsock("/nonexistent/directory/p.sock", 1), ReasonUnreachable},
		{"port taken", TCP(tcp.Addr().String()), ReasonInUse},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := Listen(t.Context(), test.endpoint)
			if e := wantReason(t, err, test.reason); e.Endpoint != test.endpoint {
				t.Errorf("the error is about %v", e.Endpoint)
			}
			if l != nil {
				t.Error("a listener beside an error")
			}
		})
	}
}
