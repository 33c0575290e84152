package vsockproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
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

	slots   chan struct{} // counts connections, capacity MaxConns
	lookups chan struct{} // counts lookups, capacity MaxConns
	running sync.WaitGroup

	mu      sync.Mutex
	open    map[*connection]bool
	cutting bool           // connections that join open from now on are cut at once
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

	err := s.acceptLoop(ctx, work, l)
	close(accepted)
	closer.Wait()
	s.drain(cancelWork)
	return err
}

func (s *server) acceptLoop(ctx, work context.Context, l net.Listener) error {
	var pause time.Duration
	for {
		if !s.waitForSlot(ctx) {
			return nil
		}
		conn, err := l.Accept()
		if err == nil {
			pause = 0
			s.running.Go(func() {
				defer func() { <-s.slots }()
				s.handle(work, conn, l.Addr())
			})
			continue
		}
		<-s.slots
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

// waitForSlot takes a slot, or reports false if ctx ends first.
func (s *server) waitForSlot(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	s.log.Warn("at the connection limit, further connections wait", "max_conns", cap(s.slots))
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
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

// drain waits for open connections, and cuts those that outlast the timeout.
func (s *server) drain(cancelWork func()) {
	ended := make(chan struct{})
	go func() {
		s.running.Wait()
		close(ended)
	}()
	timer := time.NewTimer(s.drainTimeout)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case <-timer.C:
	}
	open := s.cutOpen()
	cancelWork()
	s.log.Warn("cut the connections that outlasted the drain timeout", "open", open)
	<-ended
}

func (s *server) cutOpen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutting = true
	open := len(s.open)
	for c := range s.open {
		c.relay.cut()
	}
	return open
}

// join adds a relay to those that drain will cut.
func (s *server) join(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = true
	if s.cutting {
		c.relay.cut()
	}
}

func (s *server) leave(c *connection) (cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	return s.cutting
}
