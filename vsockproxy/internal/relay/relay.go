package relay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// HalfCloseTimeout takes the place of a longer idle timeout once one direction has
// ended. Over vsock and Unix sockets, and over TCP until the next write, a client that
// is gone for good looks like one that has ended its stream and waits for the answer.
// Silence has to decide. Every byte that moves starts it anew, and protocols over TLS
// answer much sooner.
const HalfCloseTimeout = time.Minute

// ErrIdle ends a relay on which nothing moved for the idle timeout.
var ErrIdle = errors.New("nothing moved in either direction for the idle timeout")

// ErrLifetime ends a relay that has lasted as long as it may.
var ErrLifetime = errors.New("forwarded for as long as the maximum lifetime allows")

// partingTimeout replaces a longer idle timeout once one side takes no more
// bytes, while what that side has already sent is carried across.
const partingTimeout = time.Second

// Relay copies bytes between two connections until both directions have ended.
//
// The end of the stream on one side closes the writing half of the other side
// and leaves the opposite direction alone. Every error ends both directions.
type Relay struct {
	enclave, target     side
	client              *side // the one of the two that began the connection
	toTarget, toEnclave flow

	began time.Time
	moved atomic.Int64 // time of the last progress in either direction, since began

	halfClose time.Duration // bounds idle once one direction has ended
	lifetime  time.Duration // zero: no limit
	done      func(error)

	mu      sync.Mutex
	idle    time.Duration
	timer   *time.Timer // calls check
	first   error       // what ended the relay, if not the ends of both streams
	running int         // flows that have not ended
}

// side is one of the two connections of a relay.
type side struct {
	net.Conn
	raw   rawConn // of Conn, if it is a socket and nothing else
	name  string
	early []byte      // of its stream, read before the relay began
	ended atomic.Bool // its stream has been read to the end
}

// Config says how a relay runs.
type Config struct {
	// Inbound says that the target's side began the connection.
	Inbound bool
	// EnclaveName and TargetName are for errors: "the enclave" and "the target" if
	// they are empty.
	EnclaveName, TargetName string
	// Early is what was read of the stream of the side that began, before the relay.
	Early []byte
	// Idle ends the relay if nothing moves for so long.
	Idle time.Duration
	// Lifetime ends it when it has lasted so long. Zero is no limit.
	Lifetime time.Duration
}

// New returns a relay between two connections, which it owns from [Relay.Start] on.
func New(enclave, target net.Conn, c Config) *Relay {
	r := &Relay{
		idle:      c.Idle,
		lifetime:  c.Lifetime,
		began:     time.Now(),
		halfClose: HalfCloseTimeout,
	}
	r.enclave = side{Conn: enclave, raw: rawOf(enclave), name: cmp.Or(c.EnclaveName, "the enclave")}
	r.target = side{Conn: target, raw: rawOf(target), name: cmp.Or(c.TargetName, "the target")}
	r.client = &r.enclave
	if c.Inbound {
		r.client = &r.target
	}
	r.client.early = c.Early
	r.toTarget = flow{relay: r, src: &r.enclave, dst: &r.target}
	r.toEnclave = flow{relay: r, src: &r.target, dst: &r.enclave}
	return r
}

// FromEnclave returns how many bytes have gone from the enclave to the target. It is
// safe for concurrent use.
func (r *Relay) FromEnclave() int64 { return r.toTarget.written.Load() }

// ToEnclave returns how many bytes have gone from the target to the enclave. It is safe
// for concurrent use.
func (r *Relay) ToEnclave() int64 { return r.toEnclave.written.Load() }

// sideError is a failure of one side. Its text is made when it is asked for: most
// relays end with one, and often nobody listens to what it says.
type sideError struct {
	op   string // "read from" or "write to"
	side *side
	gone bool // side takes no more bytes, and that is all
	err  error
}

func (e *sideError) Error() string { return e.op + " " + e.side.name + ": " + e.err.Error() }
func (e *sideError) Unwrap() error { return e.err }

// isGone returns the side that takes no more bytes, if that is what err says.
func isGone(err error) *side {
	if e, ok := err.(*sideError); ok && e.gone {
		return e.side
	}
	return nil
}

// Start relays in two goroutines of its own. Once both connections are closed, one
// of them calls done, with nil when both sides ended their streams, else with the
// error that came first.
//
// It is also nil when a side ended its stream and closed without waiting for what
// the other still said. That is how TLS clients leave: the server's last word, its
// close_notify, finds nobody. A client that leaves with that word unread sends a reset,
// and so it is nil, too, when the client resets a connection whose other side has ended
// its stream, after bytes went both ways and all of that stream was written.
func (r *Relay) Start(done func(error)) {
	// A listener may have left one, from a handshake of its own, say.
	_ = setDeadline(r.enclave.Conn, time.Time{})
	_ = setDeadline(r.target.Conn, time.Time{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.running = done, 2
	// One timer for both connections and both directions is much cheaper than a
	// deadline for each read and write.
	r.timer = time.AfterFunc(time.Until(r.deadline()), r.check)
	// Nothing is kept of the caller's stack, which has grown while it dialed.
	go r.toTarget.run()
	go r.toEnclave.run()
}

// end is told how a flow ended. The last one to end closes the connections.
func (r *Relay) end(err error) {
	if err != nil {
		r.fail(err)
	}
	r.mu.Lock()
	r.running--
	last := r.running == 0
	if last {
		r.timer.Stop()
	}
	r.mu.Unlock()
	if last {
		r.done(r.close())
	}
}

func (r *Relay) fail(err error) {
	r.mu.Lock()
	if r.first == nil {
		r.first = err
	}
	r.mu.Unlock()
	if isGone(err) != nil {
		// Let the opposite direction run to its end, so that a target's
		// early refusal, say, reaches the enclave whole.
		r.shorten(partingTimeout)
	} else {
		r.Cut() // wakes the other direction
	}
}

func (r *Relay) close() error {
	if gone := isGone(r.first); r.first != nil && (gone == nil || !gone.ended.Load()) {
		r.Cut()
		if r.clientHadAll(r.first) {
			return nil
		}
		return r.first
	}
	return errors.Join(closeConn(r.enclave.Conn), closeConn(r.target.Conn))
}

// clientHadAll reports whether err is no more than the reset of a client that left
// after a whole exchange. A side's stream has ended only when all of it was written.
func (r *Relay) clientHadAll(err error) bool {
	other := &r.target
	if r.client == other {
		other = &r.enclave
	}
	e, ok := err.(*sideError)
	return ok && e.side == r.client && errors.Is(e.err, connReset) && other.ended.Load() &&
		r.toTarget.written.Load() > 0 && r.toEnclave.written.Load() > 0
}

// check is called when the relay has been idle for too long unless something has
// moved, or has lasted as long as it may.
func (r *Relay) check() {
	r.mu.Lock()
	if r.running == 0 {
		r.mu.Unlock()
		return
	}
	if left := time.Until(r.deadline()); left > 0 {
		r.timer.Reset(left)
		r.mu.Unlock()
		return
	}
	err := ErrLifetime
	if r.lifetime == 0 || time.Since(r.began) < r.lifetime {
		err = r.idleError()
	}
	r.running++ // as a flow, so that the relay does not end before this goroutine
	r.mu.Unlock()
	r.end(err)
}

func (r *Relay) idleError() error {
	for _, s := range []*side{&r.enclave, &r.target} {
		if s.ended.Load() {
			return fmt.Errorf("%w, which is at most %v because %s has ended its stream", ErrIdle, r.halfClose, s.name)
		}
	}
	return ErrIdle
}

// deadline is when the connection becomes idle unless something moves, or has lasted
// as long as it may. One direction may rest as long as the other moves: a long
// download is not idle. The caller holds mu.
func (r *Relay) deadline() time.Time {
	// Two additions, because the sum of the durations may overflow; a Time does
	// not.
	idle := r.began.Add(time.Duration(r.moved.Load())).Add(r.idle)
	if end := r.began.Add(r.lifetime); r.lifetime > 0 && end.Before(idle) {
		return end
	}
	return idle
}

func (r *Relay) touch() { r.moved.Store(int64(time.Since(r.began))) }

// shorten lowers the idle timeout and begins it anew.
func (r *Relay) shorten(idle time.Duration) {
	r.touch()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = min(r.idle, idle)
	if r.running > 0 {
		r.timer.Reset(time.Until(r.deadline()))
	}
}

// Cut closes both connections at once and may be called at any time.
func (r *Relay) Cut() {
	Abort(r.enclave.Conn)
	Abort(r.target.Conn)
}

// Abort closes conn so that its peer does not take the cut for an orderly end,
// as far as the transport can say so: TCP sends a reset. Unix sockets and vsock
// have no such thing; there TLS tells the difference, to those who wait for its
// close_notify.
//
// Panics of conn are contained, because callers have other connections to cut.
func Abort(conn net.Conn) {
	_ = resetOnClose(conn)
	if closeConn(conn) != nil {
		// What is not closed may still wake by a deadline.
		_ = setDeadline(conn, time.Unix(1, 0))
	}
}

func resetOnClose(conn net.Conn) (err error) {
	defer contain.Panic(&err)
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	return nil
}

// closeConn closes conn. Its error is that of a panic; no other matters.
func closeConn(conn net.Conn) (err error) {
	defer contain.Panic(&err)
	_ = conn.Close()
	return nil
}

func setDeadline(conn net.Conn, deadline time.Time) (err error) {
	defer contain.Panic(&err)
	_ = conn.SetDeadline(deadline)
	return nil
}
