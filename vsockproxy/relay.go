package vsockproxy

import (
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

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
	enclave, target     side
	toTarget, toEnclave flow

	began time.Time
	moved atomic.Int64 // time of the last progress in either direction, since began

	mu    sync.Mutex // held while a deadline is set, so that shorten has the last word
	idle  time.Duration
	first error // what ended the relay, if not the ends of both streams

	halfClose time.Duration // bounds idle once one direction has ended
	lifetime  *time.Timer   // cuts, if lifetimes are limited
	expired   atomic.Bool   // lifetime has cut

	running atomic.Int32 // flows
	done    func(error)
}

// side is one of the two connections of a relay.
type side struct {
	net.Conn
	raw   rawConn // of Conn, if it is a socket and nothing else
	name  string
	early []byte      // of its stream, read before the relay began
	ended atomic.Bool // its stream has been read to the end
}

func newRelay(enclave, target net.Conn, idle time.Duration) *relay {
	r := &relay{
		idle:      idle,
		began:     time.Now(),
		halfClose: HalfCloseTimeout,
	}
	r.enclave = side{Conn: enclave, raw: rawOf(enclave), name: "the enclave"}
	r.target = side{Conn: target, raw: rawOf(target), name: "the target"}
	r.toTarget = flow{relay: r, src: &r.enclave, dst: &r.target}
	r.toEnclave = flow{relay: r, src: &r.target, dst: &r.enclave}
	return r
}

// goneError is a failed write: side takes no more bytes.
type goneError struct {
	side *side
	err  error
}

func (e *goneError) Error() string { return fmt.Sprintf("write to %s: %v", e.side.name, e.err) }
func (e *goneError) Unwrap() error { return e.err }

// start relays in two goroutines of its own. Once both connections are closed, one
// of them calls done, with nil when both sides ended their streams, else with the
// error that came first.
//
// It is also nil when a side ended its stream and closed without waiting for what
// the other still said. That is how TLS clients leave: the server's last word, its
// close_notify, finds nobody.
//
// A lifetime of zero is none.
func (r *relay) start(lifetime time.Duration, done func(error)) {
	r.done = done
	r.running.Store(2)
	if lifetime > 0 {
		r.lifetime = time.AfterFunc(lifetime, func() {
			r.expired.Store(true)
			r.cut()
		})
	}
	r.armBoth()
	// Nothing of the caller's stack, which has grown while it dialled, is kept for
	// as long as the connection is idle.
	go r.toTarget.run()
	go r.toEnclave.run()
}

// end is told how a flow ended. The last one to end closes the connections.
func (r *relay) end(err error) {
	if err != nil {
		r.fail(err)
	}
	if r.running.Add(-1) > 0 {
		return
	}
	if r.lifetime != nil {
		r.lifetime.Stop()
	}
	r.done(r.close())
}

func (r *relay) fail(err error) {
	r.mu.Lock()
	if r.first == nil {
		r.first = err
	}
	r.mu.Unlock()
	if errors.As(err, new(*goneError)) {
		// Let the opposite direction run to its end, so that a target's
		// early refusal, say, reaches the enclave whole.
		r.shorten(partingTimeout)
	} else {
		r.cut() // wakes the other direction
	}
}

func (r *relay) close() error {
	err := r.first
	var gone *goneError
	if errors.As(err, &gone) && gone.side.ended.Load() {
		err = nil
	}
	if err != nil {
		r.cut()
		if r.expired.Load() {
			return errLifetime
		}
		return err
	}
	return errors.Join(closeConn(r.enclave.Conn), closeConn(r.target.Conn))
}

// shorten lowers the idle timeout, also for reads and writes that are waiting.
func (r *relay) shorten(idle time.Duration) {
	r.mu.Lock()
	r.touch()
	r.idle = min(r.idle, idle)
	r.mu.Unlock()
	r.armBoth()
}

// armBoth sets the deadlines of both connections.
func (r *relay) armBoth() {
	r.armSide(&r.enclave)
	r.armSide(&r.target)
}

// armSide contains panics, because it may be called about a side that has failed,
// and by a goroutine that copies from the other one.
func (r *relay) armSide(s *side) (err error) {
	defer contain(&err)
	return r.arm(s.SetDeadline)
}

// cut closes both connections at once and may be called at any time.
func (r *relay) cut() {
	abort(r.enclave.Conn)
	abort(r.target.Conn)
}

// abort closes conn so that its peer does not take the cut for an orderly end,
// as far as the transport can say so: TCP sends a reset. Unix sockets and vsock
// have no such thing; there TLS, whose end is authenticated, tells the difference.
//
// It may be called by goroutines that contain no panics of conn.
func abort(conn net.Conn) {
	_ = resetOnClose(conn)
	_ = closeConn(conn)
}

func resetOnClose(conn net.Conn) (err error) {
	defer contain(&err)
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	return nil
}

// closeConn closes conn. Its error is that of a panic, and no other matters.
func closeConn(conn net.Conn) (err error) {
	defer contain(&err)
	_ = conn.Close()
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

// wait is called when a deadline of one of the connections is over. It sets the
// next one, unless the relay is idle.
func (r *relay) wait(set func(time.Time) error) error {
	if !r.isIdle() {
		return r.arm(set)
	}
	for _, s := range []*side{&r.enclave, &r.target} {
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
