package vsockproxy

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// errDrained ends the connections that are open when the drain timeout is over.
var errDrained = errors.New("still open after the drain timeout")

// errCut ends the connections that are open when Proxy.Cut is closed.
var errCut = errors.New("cut at once")

// server is one call of Proxy.Serve.
type server struct {
	way                                    way
	log                                    *slog.Logger
	onEnd                                  func(ConnEnd)
	idleTimeout, maxLifetime, drainTimeout time.Duration

	cut      <-chan struct{} // Proxy.Cut
	work     context.Context // of connections
	listener net.Listener

	admission *admission
	running   sync.WaitGroup

	mu      sync.Mutex
	open    map[*connection]bool
	cutting error // if not nil, why connections that join open are cut at once
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
	case <-s.cut:
		why, message = errCut, "cut the connections within the drain timeout"
	}
	// Some may have their target still to name, or to reach. None may be left, above
	// all if Cut was closed before: then there is nothing to warn of.
	open := s.admission.open()
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
