package vsockproxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// How long the accept loop rests after a failure, doubling from the first to the
// second.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

// closedCheck is how often the accept loop looks, while it may not accept, whether
// somebody has closed the listener.
const closedCheck = time.Second

// errDrained ends the connections that are open when the drain timeout is over.
var errDrained = errors.New("still open after the drain timeout")

// cutError ends the connections that are open when Proxy.Cut ends.
type cutError struct{ cause error }

func (e *cutError) Error() string { return "cut at once: " + e.cause.Error() }
func (e *cutError) Unwrap() error { return e.cause }

// server is one call of Proxy.Serve.
type server struct {
	route                                  Route
	target                                 target // of the route To
	allow                                  func() Allowlist
	log                                    *slog.Logger
	onEnd                                  func(ConnEnd)
	resolver                               Resolver
	family                                 AddressFamily
	dialTimeout, idleTimeout, drainTimeout time.Duration
	handshakeTimeout, maxLifetime          time.Duration
	maxConnsPerCID                         int

	cut      context.Context // Proxy.Cut, or one that never ends
	work     context.Context // of connections
	listener net.Listener

	slots   chan struct{} // counts connections, capacity MaxConns
	lookups chan struct{} // counts lookups, capacity MaxConns
	running sync.WaitGroup

	mu      sync.Mutex
	open    map[*connection]bool
	cutting error          // if not nil, why connections that join open are cut at once
	perCID  map[uint32]int // connections by context ID, if those are limited
}

func (s *server) serve(ctx context.Context, l net.Listener) error {
	var closer sync.WaitGroup
	accepted := make(chan struct{})
	closer.Go(func() {
		select {
		case <-ctx.Done():
		case <-accepted:
		}
		_ = l.Close() // wakes Accept
	})
	// Connections outlive ctx by the drain timeout, so their context does not
	// end with it.
	work, cancelWork := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelWork()
	s.work, s.listener = work, l

	err := s.acceptLoop(ctx, l)
	close(accepted)
	closer.Wait()
	s.drain(cancelWork)
	return err
}

func (s *server) acceptLoop(ctx context.Context, l net.Listener) error {
	var pause time.Duration
	for {
		conn, err := s.accept(ctx, l)
		if err == nil {
			pause = 0
			s.running.Add(1)
			go s.handle(conn)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if !acceptErrorPasses(err) {
			return &Error{Op: "serve", Reason: ReasonListener, Detail: "no more connections can be accepted", Err: err}
		}
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		s.log.Warn("cannot accept a connection, trying again", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// accept takes a slot and a connection, or neither.
func (s *server) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	if err := s.waitForSlot(ctx, l); err != nil {
		return nil, err
	}
	conn, err := l.Accept()
	if err != nil {
		<-s.slots
	}
	return conn, err
}

// waitForSlot takes a slot. It fails if ctx ends first, or l is closed.
func (s *server) waitForSlot(ctx context.Context, l net.Listener) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	s.log.Warn("at the connection limit, further connections wait", "max_conns", cap(s.slots))
	look := time.NewTicker(closedCheck)
	defer look.Stop()
	for {
		select {
		case s.slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if isClosed(l) {
				return net.ErrClosed
			}
		}
	}
}

// isClosed reports whether l was closed, as far as that shows without accepting.
func isClosed(l net.Listener) bool {
	switch l := l.(type) {
	case *hybridListener:
		return l.closing.Err() != nil
	case syscall.Conn: // TCP and Unix sockets
		raw, err := l.SyscallConn()
		if err == nil {
			err = raw.Control(func(uintptr) {})
		}
		return errors.Is(err, net.ErrClosed)
	}
	return false
}

// acceptErrorPasses tells trouble of the moment (descriptors or memory short, a
// connection that was gone before it was accepted) from a listener that is
// closed or broken.
func acceptErrorPasses(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return !listenerIsBroken[errno]
	}
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}

// drain waits for open connections, and cuts those that outlast the timeout, or that
// are open when it is told to wait no longer.
func (s *server) drain(cancelWork func()) {
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	timer := time.NewTimer(s.drainTimeout)
	defer timer.Stop()
	var why error
	var message string
	select {
	case <-ended:
		return
	case <-timer.C:
		why, message = errDrained, "cut the connections that outlasted the drain timeout"
	case <-s.cut.Done():
		why, message = &cutError{context.Cause(s.cut)}, "cut the connections within the drain timeout"
	}
	// Some may have their target still to name, or to reach. None may be left, above
	// all if Cut had ended before: then there is nothing to warn of.
	open := len(s.slots)
	s.cutOpen(why)
	cancelWork()
	if open > 0 {
		s.log.Warn(message, "open", open, "error", why)
	}
	<-ended
}

// cutOpen cuts the connections that are relayed.
func (s *server) cutOpen(why error) {
	s.mu.Lock()
	s.cutting = why
	open := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, c := range open {
		c.relay.Cut()
	}
}

// join adds a relay to those that drain will cut.
func (s *server) join(c *connection) {
	s.mu.Lock()
	s.open[c] = true
	cutting := s.cutting
	s.mu.Unlock()
	if cutting != nil {
		c.relay.Cut()
	}
}

// leave takes c out of those again, and returns why they are cut, if they are.
func (s *server) leave(c *connection) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	return s.cutting
}

// whyCut is why open connections are cut, or nil if they are not.
func (s *server) whyCut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cutting
}
