package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	relay    *relay.Relay   // once dialled
}

// Why a connection ended, as the log says it: one of these, or the Reason of an
// *Error if the target was not reached.
const (
	endClosed   = "closed"   // both sides ended their streams, or one did and one left
	endIdle     = "idle"     // nothing moved for the idle timeout
	endLifetime = "lifetime" // forwarded for as long as MaxLifetime allows
	endBroken   = "broken"   // one side failed, so both were cut
	endShutdown = "shutdown" // still open after the drain timeout
	endCut      = "cut"      // open when Proxy.Cut ended
	endPanic    = "panic"
)

// handle serves one connection from accept to log line. It returns once the
// connection is relayed or has failed.
func (s *server) handle(accepted net.Conn) {
	c := &connection{accepted: accepted, began: time.Now()}
	err := s.forward(c)
	if err == nil {
		return
	}
	if cut, ok := s.whyCut().(*cutError); ok && isCanceled(err) {
		err = fmt.Errorf("%w: %w", cut, err) // with how far it had come
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

	c.leave, err = s.admit(c)
	if err != nil {
		return err
	}
	far, err := s.reach(s.work, c)
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

// finish writes the log line of a connection that is closed, and makes room for
// the next.
func (s *server) finish(c *connection, err error) {
	defer s.running.Done()
	defer func() { <-s.slots }()
	// What can still panic out here is the listener's connection when it is asked
	// for its address, and there is no log line to tell it in.
	defer func() { _ = recover() }()
	if c.leave != nil {
		c.leave()
	}
	s.tellEnd(c, time.Since(c.began), err)

	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	var p *contain.PanicError
	if errors.As(err, &p) {
		level = slog.LevelError
	}
	if !s.log.Enabled(s.work, level) {
		return
	}
	attrs := []slog.Attr{slog.String("peer", peerName(c.accepted, s.listener))}
	if from := sourceOf(c.accepted); from.known {
		attrs = append(attrs, slog.Uint64("cid", uint64(from.cid)))
	}
	if c.target != "" {
		attrs = append(attrs, slog.String("target", c.target))
	}
	if c.relay != nil {
		out, in := "bytes_to_target", "bytes_to_enclave"
		switch {
		case s.route.isInbound():
			out = "bytes_to_client"
		case s.route.kind == routeToParent:
			out, in = "bytes_to_parent", "bytes_to_client"
		default:
			attrs = append(attrs, slog.String("address", c.address.String()))
		}
		attrs = append(attrs,
			slog.Int64(out, c.relay.FromEnclave()),
			slog.Int64(in, c.relay.ToEnclave()))
	}
	attrs = append(attrs,
		slog.Duration("duration", time.Since(c.began)),
		slog.String("end", endOf(err)))
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	if p != nil {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	s.log.LogAttrs(s.work, level, "connection ended", attrs...)
}

// isCanceled reports whether err says that the context of the work has ended.
func isCanceled(err error) bool {
	var e *Error
	return errors.Is(err, context.Canceled) || errors.As(err, &e) && e.Reason == ReasonCanceled
}

func (s *server) newRelay(c *connection, far net.Conn) *relay.Relay {
	config := relay.Config{Idle: s.idleTimeout, Lifetime: s.maxLifetime, Early: c.early}
	c.early = nil
	switch {
	case s.route.isInbound():
		config.Inbound, config.TargetName = true, "the client"
		return relay.New(far, c.accepted, config)
	case s.route.kind == routeToParent:
		config.EnclaveName, config.TargetName = "the client", "the parent"
	}
	return relay.New(c.accepted, far, config)
}

func endOf(err error) string {
	var p *contain.PanicError
	var cut *cutError
	var e *Error
	switch {
	case errors.As(err, &p):
		return endPanic
	case err == nil:
		return endClosed
	case errors.Is(err, errDrained):
		return endShutdown
	case errors.As(err, &cut):
		return endCut
	case errors.Is(err, relay.ErrIdle):
		return endIdle
	case errors.Is(err, relay.ErrLifetime):
		return endLifetime
	case errors.As(err, &e):
		return string(e.Reason)
	}
	return endBroken
}

// peerAddr is the address of the peer of conn. A client of a Unix socket has none,
// so the listener's stands for it.
func peerAddr(conn net.Conn, l net.Listener) net.Addr {
	addr := conn.RemoteAddr()
	if addr == nil || addr.String() == "" || addr.String() == "@" {
		return l.Addr()
	}
	return addr
}

// peerName names the peer of conn.
func peerName(conn net.Conn, l net.Listener) string {
	addr := peerAddr(conn, l)
	if addr == nil {
		return "unknown"
	}
	return addr.Network() + " " + addr.String()
}
