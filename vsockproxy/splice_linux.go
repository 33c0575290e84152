package vsockproxy

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipe is what splice(2) moves bytes through.
type pipe struct{ r, w int }

var (
	pipes     = make(chan *pipe, maxPipes)
	pipesNow  atomic.Int32
	spliceOff = os.Getenv("NOSPLICE") != ""
	pipeSize  = 1 << 20
)

const maxPipes = 32

func spliceable(c net.Conn) bool {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

func (f *flow) spliceIn(fd int) bool {
	if spliceOff || !spliceable(f.src.Conn) || !spliceable(f.dst.Conn) {
		return false
	}
	if f.pipe == nil {
		select {
		case f.pipe = <-pipes:
		default:
			if pipesNow.Add(1) > maxPipes {
				pipesNow.Add(-1)
				return false
			}
			var p [2]int
			if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
				pipesNow.Add(-1)
				return false
			}
			unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize)
			f.pipe = &pipe{p[0], p[1]}
		}
	}
	for {
		n, err := unix.Splice(fd, nil, f.pipe.w, nil, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			f.release()
			f.err = nil
			return true
		case err == syscall.EINVAL:
			f.releasePipe()
			return false
		case err != nil:
			f.err = os.NewSyscallError("splice", err)
		case n == 0:
			f.err = io.EOF
		default:
			f.err = nil
			f.piped = int(n)
			f.bulk = n >= smallBuffer
		}
		return true
	}
}

func (f *flow) spliceOut(fd int) bool {
	for f.piped > 0 {
		n, err := unix.Splice(f.pipe.r, nil, fd, nil, f.piped, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			f.err = os.NewSyscallError("splice", err)
			return true
		}
		f.wrote(int(n))
		f.piped -= int(n)
	}
	f.err = nil
	return true
}

func (f *flow) releasePipe() {
	if f.pipe == nil {
		return
	}
	if f.piped == 0 {
		select {
		case pipes <- f.pipe:
			f.pipe = nil
			return
		default:
		}
	}
	unix.Close(f.pipe.r)
	unix.Close(f.pipe.w)
	pipesNow.Add(-1)
	f.pipe, f.piped = nil, 0
}
