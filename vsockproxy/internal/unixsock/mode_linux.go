package unixsock

import "syscall"

// restrict gives the socket its file mode before bind(2) creates the file,
// so that there is no moment at which others may connect. Linux takes the mode
// of the new file from the socket's inode (net/unix/af_unix.c, unix_bind_bsd).
func restrict(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	if err := c.Control(func(fd uintptr) {
		chmodErr = syscall.Fchmod(int(fd), uint32(Mode))
	}); err != nil {
		return err
	}
	return chmodErr
}
