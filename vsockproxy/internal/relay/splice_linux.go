package relay

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is the capacity of a pipe, in bytes, as far as the kernel allows
	// this user as much (pipe(7), pipe-user-pages-soft).
	pipeSize = 256 << 10

	// MaxPipes bounds the pipes of a process, with two descriptors each. They are
	// held as long as a receiver does not take what is in them. Streams that get
	// none are copied through buffers.
	MaxPipes = 32
)

// pipe is what splice(2) moves bytes through: from socket to socket without
// copying them to this process and back.
type pipe struct{ r, w int }

// splicer is what a flow needs to splice.
type splicer struct {
	pipe         *pipe // borrowed
	unspliceable bool  // the kernel knows no way between the two
}

var (
	idlePipes = make(chan *pipe, MaxPipes)
	pipeCount atomic.Int32
)

// borrowPipe returns nil if there is none to be had.
func borrowPipe() *pipe {
	select {
	case p := <-idlePipes:
		return p
	default:
	}
	if pipeCount.Add(1) <= MaxPipes {
		var fds [2]int
		if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) == nil {
			_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
			return &pipe{r: fds[0], w: fds[1]}
		}
	}
	pipeCount.Add(-1)
	return nil
}

func (f *flow) releasePipe() {
	p := f.pipe
	if p == nil {
		return
	}
	f.pipe = nil
	if f.piped == 0 {
		idlePipes <- p // has room for all
		return
	}
	f.piped = 0
	_ = unix.Close(p.r)
	_ = unix.Close(p.w)
	pipeCount.Add(-1)
}

// canSplice reports whether the kernel may know how to splice from src to dst.
// AF_VSOCK does not. What is in a pipe can only go to a socket that is written as
// one: packet sockets are not, although they have the same type.
func (f *flow) canSplice() bool {
	for _, s := range []*side{f.dst, f.src} {
		switch s.Conn.(type) {
		case *net.TCPConn, *net.UnixConn:
			if s.raw == nil {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// spliceIn moves bytes from src to a pipe. It reports false if it has taken nothing,
// and read(2) is to be asked; after true there are bytes or an error.
func (f *flow) spliceIn(fd int) bool {
	if f.unspliceable {
		return false
	}
	if f.pipe == nil {
		if f.unspliceable = !f.canSplice(); f.unspliceable {
			return false
		}
		if f.pipe = borrowPipe(); f.pipe == nil {
			return false
		}
	}
	n, err := splice(f.pipe.w, fd, pipeSize)
	switch {
	case n > 0:
		f.piped, f.err = n, nil
		f.bulk = n >= smallBuffer
	case err == nil, err == syscall.EAGAIN:
		// Only read tells whether that is so: before a byte that TCP marks as
		// urgent, splice stops for good, as at the end of the stream or where there
		// is nothing yet. Read passes over that byte, as it does for everybody.
		return false
	case spliceUnsupported(err):
		f.unspliceable = true
		f.releasePipe()
		return false
	default:
		f.err = os.NewSyscallError("splice", err)
	}
	return true
}

// spliceOut moves bytes from the pipe to dst, or to a buffer if dst does not take
// them so.
func (f *flow) spliceOut(fd int) error {
	n, err := splice(fd, f.pipe.r, f.piped)
	if n > 0 {
		f.piped -= n
		f.wrote(n)
		return nil
	}
	switch {
	case err == nil:
		return io.ErrShortWrite
	case err == syscall.EAGAIN:
		return err
	case !spliceUnsupported(err):
		return os.NewSyscallError("splice", err)
	}
	f.unspliceable = true
	if len(f.buf) == 0 {
		f.borrow()
	}
	n, err = retry(syscall.Read, f.pipe.r, f.buf)
	if err != nil {
		return os.NewSyscallError("read from a pipe", err)
	}
	if n == 0 {
		return io.ErrUnexpectedEOF // this process holds the other end, so never
	}
	f.piped -= n
	f.chunk = f.buf[:n]
	return nil
}

func splice(to, from, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != syscall.EINTR {
			return int(moved), err
		}
	}
}

// spliceUnsupported tells errors about splice from those about a connection. A
// sandbox may forbid it.
func spliceUnsupported(err error) bool {
	switch err {
	case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EPERM:
		return true
	}
	return false
}
