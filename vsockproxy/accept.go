package vsockproxy

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// How long the accept loop rests after a failure, doubling from the first to the
// second.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
)

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
			return &Error{Op: "Serve", Reason: ReasonListener, Detail: "no more connections can be accepted", Err: err}
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
	if err := s.admission.waitForSlot(ctx, l); err != nil {
		return nil, err
	}
	conn, err := l.Accept()
	if err != nil {
		s.admission.freeSlot()
	}
	return conn, err
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
