//go:build unix

package vsockproxy

import (
	"io"
	"net"
	"os"
	"syscall"

	"github.com/mdlayher/vsock"
)

// maxVsockWrite bounds a write to AF_VSOCK, in bytes, because some vsock devices
// stall on packets that are larger.
const maxVsockWrite = smallBuffer

// rawOf returns the socket of conn, or nil if conn is another type, also one that
// embeds a socket: its Read and Write may do more than the socket's.
func rawOf(conn net.Conn) rawConn {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, *vsock.Conn:
		if raw, err := conn.(syscall.Conn).SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

func (s *side) isVsock() bool {
	_, ok := s.Conn.(*vsock.Conn)
	return ok
}

// readable reads once from src, or reports false if there is nothing to be read. It
// does not hold a buffer while it waits to be called again.
func (f *flow) readable(fd uintptr) bool {
	if f.bulk && f.spliceIn(int(fd)) {
		return f.piped > 0 || f.err != nil
	}
	if f.buf == nil || f.bulk && len(f.buf) == smallBuffer {
		f.release()
		f.borrow()
	}
	n, err := retry(syscall.Read, int(fd), f.buf)
	if err == syscall.EAGAIN {
		f.release()
		return false
	}
	f.bulk = n >= smallBuffer
	switch {
	case err == syscall.ENOTCONN && f.src.isVsock():
		err = io.EOF // as package vsock has it
	case err != nil:
		n, err = 0, os.NewSyscallError("read", err)
	case n == 0:
		err = io.EOF
	}
	f.chunk, f.err = f.buf[:n], err
	return true
}

// writable writes as much to dst as it takes, and reports whether that is all.
func (f *flow) writable(fd uintptr) bool {
	if f.piped > 0 {
		return f.spliceOut(int(fd))
	}
	limit := len(f.chunk)
	if f.dst.isVsock() {
		limit = maxVsockWrite
	}
	for len(f.chunk) > 0 {
		n, err := retry(syscall.Write, int(fd), f.chunk[:min(len(f.chunk), limit)])
		if err == syscall.EAGAIN {
			return false
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			f.err = os.NewSyscallError("write", err)
			return true
		}
		f.wrote(n)
		f.chunk = f.chunk[n:]
	}
	f.err = nil
	return true
}

// retry repeats a system call that a signal has interrupted.
func retry(call func(fd int, p []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		n, err := call(fd, p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}
