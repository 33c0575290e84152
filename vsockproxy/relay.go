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

// errLifetime ends a relay that has lasted as long as it may.
var errLifetime = errors.New("forwarded for Proxy.MaxLifetime")

// partingTimeout replaces a longer idle timeout once one side takes no more
// bytes, while what that side has already sent is carried across.
const partingTimeout = time.Second

// relay copies bytes between two connections until both directions have ended.
//
// The end of the stream on one side closes the writing half of the other side
// and leaves the opposite direction alone. Every error ends both directions.
type relay struct {
	enclave, target *side

	toTarget, toEnclave atomic.Int64 // bytes written

	began time.Time
	moved atomic.Int64 // time of the last progress in either direction, since began

	mu   sync.Mutex // held while a deadline is set, so that shorten has the last word
	idle time.Duration

	halfClose time.Duration // bounds idle once one direction has ended
}

// side is one of the two connections of a relay.
type side struct {
	net.Conn
	name  string
	early []byte      // of its stream, read before the relay began
	ended atomic.Bool // its stream has been read to the end
}

func newRelay(enclave, target net.Conn, idle time.Duration) *relay {
	return &relay{
		enclave: &side{Conn: enclave, name: "the enclave"},
		target:  &side{Conn: target, name: "the target"},
		idle:    idle,
		began:   time.Now(),

		halfClose: HalfCloseTimeout,
	}
}

// goneError is a failed write: side takes no more bytes.
type goneError struct {
	side *side
	err  error
}

func (e *goneError) Error() string { return fmt.Sprintf("write to %s: %v", e.side.name, e.err) }
func (e *goneError) Unwrap() error { return e.err }

// run relays and closes both connections. It returns nil when both sides ended
// their streams, else the error that came first.
//
// It also returns nil when a side ended its stream and closed without waiting for
// what the other still said. That is how TLS clients leave: the server's last
// word, its close_notify, finds nobody.
func (r *relay) run() error {
	var once sync.Once
	var first error
	end := func(err error) {
		if err == nil {
			return
		}
		once.Do(func() { first = err })
		if errors.As(err, new(*goneError)) {
			// Let the opposite direction run to its end, so that a target's
			// early refusal, say, reaches the enclave whole.
			r.shorten(partingTimeout)
		} else {
			r.cut() // wakes the other direction
		}
	}
	var back sync.WaitGroup
	back.Go(func() { end(r.copy(r.enclave, r.target, &r.toEnclave)) })
	end(r.copy(r.target, r.enclave, &r.toTarget))
	back.Wait()
	var gone *goneError
	if errors.As(first, &gone) && gone.side.ended.Load() {
		first = nil
	}
	if first != nil {
		r.cut()
		return first
	}
	_ = r.enclave.Close()
	_ = r.target.Close()
	return nil
}

// runFor is run, cut after so long.
func (r *relay) runFor(lifetime time.Duration) error {
	var expired atomic.Bool
	timer := time.AfterFunc(lifetime, func() {
		// This goroutine has no caller that contains a panic of a connection.
		defer func() { _ = recover() }()
		expired.Store(true)
		r.cut()
	})
	defer timer.Stop()
	err := r.run()
	if err != nil && expired.Load() {
		return errLifetime
	}
	return err
}

// shorten lowers the idle timeout, also for reads and writes that are waiting.
func (r *relay) shorten(idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch()
	r.idle = min(r.idle, idle)
	_ = r.enclave.SetDeadline(r.deadline())
	_ = r.target.SetDeadline(r.deadline())
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
	chunk, readErr := src.early, error(nil)
	src.early = nil
	for {
		if err := r.write(dst, chunk, count); err != nil {
			if errors.Is(err, errIdle) || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("write to %s: %w", dst.name, err)
			}
			return &goneError{dst, err}
		}
		if errors.Is(readErr, io.EOF) {
			src.ended.Store(true)
			// Failing here means that dst is gone, and the opposite direction,
			// which reads from it, finds that out without losing what dst sent.
			if half, ok := dst.Conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			// A peer that closed for good looks the same as one that only ended
			// its stream, and nothing more may ever come.
			r.shorten(r.halfClose)
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("read from %s: %w", src.name, readErr)
		}
		var n int
		n, readErr = r.read(src, buf[:])
		chunk = buf[:n]
	}
}

// read reads once. It waits as long as the connection as a whole is not idle.
func (r *relay) read(src net.Conn, buf []byte) (int, error) {
	for {
		if err := r.arm(src.SetReadDeadline); err != nil {
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
		if r.isIdle() {
			return 0, r.idleError()
		}
	}
}

// write writes all of buf, and like read waits while the connection is not idle.
func (r *relay) write(dst net.Conn, buf []byte, count *atomic.Int64) error {
	for len(buf) > 0 {
		if err := r.arm(dst.SetWriteDeadline); err != nil {
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
		case len(buf) > 0 && r.isIdle():
			return r.idleError()
		}
	}
	return nil
}

func (r *relay) touch() { r.moved.Store(int64(time.Since(r.began))) }

// arm sets a deadline of one of the connections.
func (r *relay) arm(set func(time.Time) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return set(r.deadline())
}

func (r *relay) isIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !time.Now().Before(r.deadline())
}

func (r *relay) idleError() error {
	for _, s := range []*side{r.enclave, r.target} {
		if s.ended.Load() {
			return fmt.Errorf("%w, which is at most %v because %s has ended its stream", errIdle, r.halfClose, s.name)
		}
	}
	return errIdle
}

// deadline is when the connection becomes idle unless something moves. One
// direction may rest as long as the other moves: a long download is not idle.
// The caller holds mu.
func (r *relay) deadline() time.Time {
	// Two additions, because the sum of the durations may overflow; a Time does
	// not.
	return r.began.Add(time.Duration(r.moved.Load())).Add(r.idle)
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
