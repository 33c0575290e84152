package vsockproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// connection is one connection from an enclave, and what its log line will say.
type connection struct {
	enclave net.Conn
	address netip.AddrPort // of the target, once dialled
	relay   *relay         // once dialled
	cut     bool           // open when the drain timeout was over
}

// Why a connection ended, as the log says it: one of these, or the Reason of an
// *Error if the target was not reached.
const (
	endClosed   = "closed"   // both sides ended their streams, or one did and left
	endIdle     = "idle"     // nothing moved for the idle timeout
	endBroken   = "broken"   // one side failed, so both were cut
	endShutdown = "shutdown" // still open after the drain timeout
	endPanic    = "panic"
)

// handle serves one connection from accept to log line.
func (s *server) handle(ctx context.Context, enclave net.Conn, local net.Addr) {
	// What can still panic out here is the listener's connection when it is asked
	// for its address, and there is no log line to tell it in.
	defer func() { _ = recover() }()

	began := time.Now()
	c := &connection{enclave: enclave}
	err := s.forward(ctx, c)

	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("peer", peerName(enclave, local)),
		slog.String("target", s.target.String()),
	}
	if c.relay != nil {
		attrs = append(attrs,
			slog.String("address", c.address.String()),
			slog.Int64("bytes_to_target", c.relay.toTarget.Load()),
			slog.Int64("bytes_to_enclave", c.relay.toEnclave.Load()))
	}
	attrs = append(attrs,
		slog.Duration("duration", time.Since(began)),
		slog.String("end", endOf(err, c.cut)))
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Any("error", err))
	}
	var p *panicError
	if errors.As(err, &p) {
		level = slog.LevelError
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	s.log.LogAttrs(ctx, level, "connection ended", attrs...)
}

// forward dials the target and relays. Both connections are closed when it
// returns.
func (s *server) forward(ctx context.Context, c *connection) (err error) {
	defer contain(&err)
	defer func() {
		// A relay has closed both. Otherwise nothing was relayed that a reset
		// could warn about.
		if c.relay == nil {
			_ = c.enclave.Close()
		}
	}()

	target, address, err := s.dialTarget(ctx, s.target, sourceOf(c.enclave))
	if err != nil {
		return err
	}
	c.address = address
	c.relay = newRelay(c.enclave, target, s.idleTimeout)
	s.join(c)
	defer func() { c.cut = s.leave(c) }()
	return c.relay.run()
}

func endOf(err error, cut bool) string {
	var p *panicError
	var e *Error
	switch {
	case errors.As(err, &p):
		return endPanic
	case err == nil:
		return endClosed
	case cut:
		return endShutdown
	case errors.Is(err, errIdle):
		return endIdle
	case errors.As(err, &e):
		return string(e.Reason)
	}
	return endBroken
}

// peerName names the peer of conn. A client of a Unix socket has no address, so
// the socket's own stands for it.
func peerName(conn net.Conn, local net.Addr) string {
	addr := conn.RemoteAddr()
	if addr == nil || addr.String() == "" || addr.String() == "@" {
		addr = local
	}
	if addr == nil {
		return "unknown"
	}
	return addr.Network() + " " + addr.String()
}
