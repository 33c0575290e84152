package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/relay"
)

// connection is one connection that was accepted, and what its log line will say.
type connection struct {
	accepted net.Conn
	began    time.Time
	leave    func()
	target   string         // once known
	address  netip.AddrPort // of the target, once dialled
	early    []byte         // what the far end gets before the rest of the stream
	relay    *relay.Relay   // once dialed
	names                   // once the route knows where it leads
}

// names says which side is which, where these are not those of a connection from an
// enclave to a target.
type names struct {
	inbound         bool   // the target's side began the connection
	enclave, target string // in errors
	out, in         string // the attributes of the log that count the bytes
}

// handle serves one connection from accept to log line. It returns once the
// connection is relayed or has failed.
func (s *server) handle(accepted net.Conn) {
	c := &connection{accepted: accepted, began: time.Now()}
	err := s.forward(c)
	if err == nil {
		return
	}
	if s.whyCut() == errCut && isCanceled(err) {
		err = fmt.Errorf("%w: %w", errCut, err) // with how far it had come
	}
	s.finish(c, err)
}

// forward dials where the route leads and begins to relay. Both connections are
// closed when it fails.
func (s *server) forward(c *connection) (err error) {
	defer contain.Panic(&err)
	defer func() {
		// A relay closes both. Otherwise nothing was relayed that a reset could
		// warn about.
		if c.relay == nil {
			_ = c.accepted.Close()
		}
	}()

	c.leave, err = s.admission.admit(c.accepted)
	if err != nil {
		return err
	}
	far, err := s.way.reach(s.work, c)
	if err != nil {
		return err
	}
	c.relay = s.newRelay(c, far)
	s.join(c)
	c.relay.Start(func(err error) {
		// What the relay says of a cut is that its connections were closed.
		if why := s.leave(c); why != nil && err != nil && !errors.As(err, new(*contain.PanicError)) {
			err = why
		}
		s.finish(c, err)
	})
	return nil
}

// finish ends what is counted of a connection that is closed, tells of it, and makes
// room for the next.
func (s *server) finish(c *connection, err error) {
	defer s.running.Done()
	defer s.admission.freeSlot()
	// What can still panic out here is the listener's connection when it is asked
	// for its address, and there is no log line to tell it in.
	defer func() { _ = recover() }()
	if c.leave != nil {
		c.leave()
	}
	s.tellEnd(c, time.Since(c.began), err)
	s.logEnd(c, err)
}

// isCanceled reports whether err says that the context of the work has ended.
func isCanceled(err error) bool {
	var e *Error
	return errors.Is(err, context.Canceled) || errors.As(err, &e) && e.Reason == ReasonCanceled
}

func (s *server) newRelay(c *connection, far net.Conn) *relay.Relay {
	config := relay.Config{
		Inbound: c.inbound, EnclaveName: c.names.enclave, TargetName: c.names.target,
		Early: c.early, Idle: s.idleTimeout, Lifetime: s.maxLifetime,
	}
	c.early = nil
	if c.inbound {
		return relay.New(far, c.accepted, config)
	}
	return relay.New(c.accepted, far, config)
}
