package vsockproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// bufferSize is the memory of one direction of one connection, in bytes. It is
// one TLS record (RFC 8446, section 5.1) less its header, and no more, because
// some vsock devices stall on larger single writes.
const bufferSize = 16 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// errIdle ends a relay on which nothing moved for the idle timeout.
var errIdle = errors.New("nothing moved in either direction for the idle timeout")

// relay copies bytes between two connections until both directions have ended.
//
// The end of the stream on one side closes the writing half of the other side
// and leaves the opposite direction alone. An error in either direction cuts
// both connections.
type relay struct {
	enclave, target *side
	idle            time.Duration

	toTarget, toEnclave atomic.Int64 // bytes written

	began time.Time
	moved atomic.Int64 // time of the last progress in either direction, since began
}

// side is one of the two connections of a relay.
type side struct {
	net.Conn
	name  string
	ended atomic.Bool // its stream has been read to the end
}

func newRelay(enclave, target net.Conn, idle time.Duration) *relay {
	return &relay{
		enclave: &side{Conn: enclave, name: "the enclave"},
		target:  &side{Conn: target, name: "the target"},
		idle:    idle,
		began:   time.Now(),
	}
}

// run relays and closes both connections. It returns nil when both sides ended
// their streams, else the error that came first.
func (r *relay) run() error {
	var once sync.Once
	var first error
	end := func(err error) {
		if err != nil {
			once.Do(func() { first = err })
			r.cut() // wakes the other direction
		}
	}
	var back sync.WaitGroup
	back.Go(func() { end(r.copy(r.enclave, r.target, &r.toEnclave)) })
	end(r.copy(r.target, r.enclave, &r.toTarget))
	back.Wait()
	_ = r.enclave.Close()
	_ = r.target.Close()
	return first
}

// cut closes both connections at once and may be called at any time.
func (r *relay) cut() {
	abort(r.enclave.Conn)
	abort(r.target.Conn)
}

// abort closes conn so that its peer does not take the cut for an orderly end,
// as far as the transport can say so: TCP sends a reset. Unix sockets and vsock
// have no such thing; there TLS, whose end is authenticated, tells the difference.
func abort(conn net.Conn) {
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// copy moves bytes from src to dst until src ends, then ends the writing half of
// dst.
func (r *relay) copy(dst, src *side, count *atomic.Int64) (err error) {
	defer contain(&err)
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, readErr := r.read(src, buf[:])
		if err := r.write(dst, buf[:n], count); err != nil {
			// A side that ends its stream and then closes, without waiting for
			// what the other still says, is done and not broken. TLS clients
			// do so: the server's last word, its close_notify, finds nobody.
			if dst.ended.Load() && !errors.Is(err, errIdle) && !errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("write to %s: %w", dst.name, err)
		}
		if errors.Is(readErr, io.EOF) {
			src.ended.Store(true)
			// Failing here means that dst is gone, and the opposite direction,
			// which reads from it, finds that out without losing what dst sent.
			if half, ok := dst.Conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("read from %s: %w", src.name, readErr)
		}
	}
}

// read reads once. It waits as long as the connection as a whole is not idle.
func (r *relay) read(src net.Conn, buf []byte) (int, error) {
	for {
		if err := src.SetReadDeadline(r.deadline()); err != nil {
			return 0, err
		}
		n, err := src.Read(buf)
		if n > 0 {
			r.touch()
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
		if !time.Now().Before(r.deadline()) {
			return 0, errIdle
		}
	}
}

// write writes all of buf, and like read waits while the connection is not idle.
func (r *relay) write(dst net.Conn, buf []byte, count *atomic.Int64) error {
	for len(buf) > 0 {
		if err := dst.SetWriteDeadline(r.deadline()); err != nil {
			return err
		}
		n, err := dst.Write(buf)
		if n > 0 {
			r.touch()
			count.Add(int64(n))
			buf = buf[n:]
		}
		switch {
		case err == nil && n == 0:
			return io.ErrShortWrite
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case len(buf) > 0 && !time.Now().Before(r.deadline()):
			return errIdle
		}
	}
	return nil
}

func (r *relay) touch() { r.moved.Store(int64(time.Since(r.began))) }

// deadline is when the connection becomes idle unless something moves. One
// direction may rest as long as the other moves: a long download is not idle.
func (r *relay) deadline() time.Time {
	return r.began.Add(time.Duration(r.moved.Load()) + r.idle)
}

// panicError is a panic that ended one connection and not the process.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// contain turns a panic of the calling function into its error. It must be
// deferred directly.
func contain(err *error) {
	if v := recover(); v != nil {
		*err = &panicError{value: v, stack: debug.Stack()}
	}
}
