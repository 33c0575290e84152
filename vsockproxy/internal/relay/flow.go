package relay

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// flow is one direction of a relay.
//
// Between sockets a flow holds nothing while it waits for bytes: it waits until
// the socket is readable, and only then borrows a buffer, or a pipe through which
// the kernel moves bytes without copying them. It takes no more bytes before it is
// rid of those it has, so that a slow receiver slows the sender.
//
// Connections of other types are read into a buffer that is held meanwhile.
type flow struct {
	relay    *Relay
	src, dst *side
	written  atomic.Int64

	buf   []byte // borrowed
	chunk []byte // of buf, or early: what is still to be written
	piped int    // bytes in the pipe that is borrowed, to be written after chunk
	bulk  bool   // the last read took as much as a small buffer holds, or more
	err   error  // of the last system call

	splicer
}

// run copies, and tells the relay how that ended.
func (f *flow) run() { f.relay.end(f.copy()) }

// copy moves bytes from src to dst until src ends, then ends the writing half of
// dst.
func (f *flow) copy() (err error) {
	defer contain.Panic(&err)
	defer f.release()
	readable, writable := f.readable, f.writable // one allocation each, here
	f.chunk, f.src.early = f.src.early, nil
	var readErr error
	for {
		if err := f.flush(writable); err != nil {
			return f.writeError(err)
		}
		if readErr != nil {
			return f.readEnd(readErr)
		}
		readErr = f.fill(readable)
	}
}

func (f *flow) holds() bool { return len(f.chunk) > 0 || f.piped > 0 }

// fill waits for bytes and takes some.
func (f *flow) fill(readable func(fd uintptr) bool) error {
	var err error
	if f.src.raw != nil {
		if err = f.src.raw.Read(readable); err == nil {
			err = f.err
		}
	} else {
		if f.buf == nil {
			f.borrow()
		}
		var n int
		n, err = f.src.Read(f.buf)
		f.chunk = f.buf[:n]
	}
	if f.holds() {
		f.relay.touch()
	}
	return err
}

// flush writes all there is.
func (f *flow) flush(writable func(fd uintptr) bool) error {
	for f.holds() {
		if f.dst.raw != nil {
			if err := f.dst.raw.Write(writable); err != nil {
				return err
			}
			if f.err != nil {
				return f.err
			}
			continue
		}
		// In small pieces, because they count as moved when Write returns.
		n, err := f.dst.Write(f.chunk[:min(len(f.chunk), smallBuffer)])
		f.wrote(n)
		f.chunk = f.chunk[n:]
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
	}
	return nil
}

func (f *flow) wrote(n int) {
	if n > 0 {
		f.relay.touch()
		f.written.Add(int64(n))
	}
}

func (f *flow) writeError(err error) error {
	return &sideError{op: "write to", side: f.dst, gone: !errors.Is(err, net.ErrClosed), err: err}
}

func (f *flow) readEnd(err error) error {
	if !errors.Is(err, io.EOF) {
		return &sideError{op: "read from", side: f.src, err: err}
	}
	f.src.ended.Store(true)
	if f.dst.ended.Load() {
		return nil // the relay closes both
	}
	// Failing here means that dst is gone, and the opposite direction, which reads
	// from it, finds that out without losing what dst sent.
	if half, ok := f.dst.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	// A peer that closed for good looks the same as one that only ended its
	// stream, and nothing more may ever come.
	f.relay.shorten(f.relay.halfClose)
	return nil
}

// rawConn is what a flow needs of a syscall.RawConn.
type rawConn interface {
	Read(f func(fd uintptr) (done bool)) error
	Write(f func(fd uintptr) (done bool)) error
}

var _ rawConn = syscall.RawConn(nil)
