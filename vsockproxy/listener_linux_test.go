package vsockproxy

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// A socket that this process may not connect to is a matter of permissions; it
// need not be in use.
func TestForeignSocketIsAPermissionError(t *testing.T) {
	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		path := leaveStaleSocket(t)
		for file, mode := range map[string]os.FileMode{path: 0, filepath.Dir(path): 0o777} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
		}
		var l net.Listener
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			if os.Geteuid() == 0 {
				// Nobody in the file system, on this thread only, which ends
				// with the goroutine.
				runtime.LockOSThread()
				if err = syscall.Setfsuid(65534); err != nil {
					return
				}
			}
			l, err = Listen(t.Context(), at(path))
		}()
		<-done
		wantReason(t, err, ReasonPermission)
		if l != nil {
			t.Error("a listener beside an error")
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the socket was removed: %v", err)
		}
	})
}
