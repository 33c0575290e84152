//go:build !linux

package unixsock

import "syscall"

// restrict does nothing: only Linux lets a socket have a file mode before
// its file exists. Between bind and chmod the directory's permissions and the
// umask protect the socket.
func restrict(_, _ string, _ syscall.RawConn) error { return nil }
