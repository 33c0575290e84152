//go:build unix

package relay

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

// rawOf returns the socket of conn, or nil if conn is no stream socket or of
// another type. One that embeds a socket is such another: its Read and Write may do
// more than the socket's.
func rawOf(conn net.Conn) rawConn {
	switch c := conn.(type) {
	case *net.TCPConn, *vsock.Conn:
	case *net.UnixConn:
		if addr := c.LocalAddr(); addr == nil || addr.Network() != "unix" {
			return nil
		}
	default:
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (s *side) isVsock() bool {
	_, ok := s.Conn.(*vsock.Conn)
	return ok
}

// readable takes bytes from src once, or reports false if there are none, and then
// holds nothing until it is called again.
func (f *flow) readable(fd uintptr) bool {
	if f.bulk && f.spliceIn(int(fd)) {
		return true
	}
	if len(f.buf) == 0 || f.bulk && len(f.buf) == smallBuffer {
		f.release()
		f.borrow()
	}
	n, err := retry(syscall.Read, int(fd), f.buf)
	if err == syscall.EAGAIN {
		f.release()
		return false
	}
	switch {
	case err == syscall.ENOTCONN && f.src.isVsock():
		n, err = 0, io.EOF // as package vsock has it
	case err != nil:
		n, err = 0, os.NewSyscallError("read", err)
	case n == 0:
		err = io.EOF
	}
	f.bulk = n >= smallBuffer
	f.chunk, f.err = f.buf[:n], err
	return true
}

// writable writes all there is, or reports false if dst does not take it now.
func (f *flow) writable(fd uintptr) bool {
	for f.err = nil; f.err == nil && f.holds(); {
		var err error
		if len(f.chunk) > 0 {
			err = f.writeChunk(int(fd))
		} else {
			err = f.spliceOut(int(fd))
		}
		if err == syscall.EAGAIN {
			return false
		}
		f.err = err
	}
	return true
}

func (f *flow) writeChunk(fd int) error {
	limit := len(f.chunk)
	if f.dst.isVsock() {
		limit = min(limit, maxVsockWrite)
	}
	n, err := retry(syscall.Write, fd, f.chunk[:limit])
	switch {
	case err == syscall.EAGAIN:
		return err
	case err != nil:
		return os.NewSyscallError("write", err)
	case n == 0:
		return io.ErrShortWrite
	}
	f.wrote(n)
	f.chunk = f.chunk[n:]
	return nil
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
