package vsockproxy

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/relay"
)

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

// ConnEnd is what [Proxy].OnEnd is told about a connection: what the log line says,
// for programs.
type ConnEnd struct {
	// Peer is the address of the client. A client of a Unix socket has none, so
	// the listener's stands for it. It may be nil.
	Peer net.Addr
	// CID is the client's context ID on vsock, as the kernel gives it, and else 0,
	// which is nobody's who connects.
	CID uint32
	// Target is where the connection was to go, "host:port" or the endpoint in the
	// enclave. Where the client names it, it is what the client named. It is empty
	// if that never became known.
	Target string
	// FromEnclave and ToEnclave are the bytes that were carried out of the enclave
	// and into it, whoever began the connection.
	FromEnclave, ToEnclave int64
	// Duration is how long the connection lasted from when it was accepted.
	Duration time.Duration
	// End is why it ended, one of few words: "closed", "idle", "lifetime",
	// "broken", "shutdown", "cut", "panic", or the [Reason] if it went nowhere (see
	// "When it does not work" in the package documentation).
	End string
	// Err says more, and is nil if End is "closed".
	Err error
}

// tellEnd tells Proxy.OnEnd. Neither that function nor a listener's connection,
// which may be the caller's own, can end more than this by a panic.
func (s *server) tellEnd(c *connection, lasted time.Duration, err error) {
	if s.onEnd == nil {
		return
	}
	defer func() { _ = recover() }()
	e := ConnEnd{
		Target:   c.target,
		Duration: lasted,
		End:      endOf(err),
		Err:      err,
	}
	if c.relay != nil {
		e.FromEnclave, e.ToEnclave = c.relay.FromEnclave(), c.relay.ToEnclave()
	}
	e.fillPeer(c.accepted, s.listener)
	s.onEnd(e)
}

// fillPeer is on its own so that a panic here does not keep the rest from OnEnd.
func (e *ConnEnd) fillPeer(conn net.Conn, l net.Listener) {
	defer func() { _ = recover() }()
	e.Peer = peerAddr(conn, l)
	e.CID = sourceOf(conn).CID
}

// logEnd writes the log line of a connection that is closed.
func (s *server) logEnd(c *connection, err error) {
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
	if from := sourceOf(c.accepted); from.Known {
		attrs = append(attrs, slog.Uint64("cid", uint64(from.CID)))
	}
	if c.target != "" {
		attrs = append(attrs, slog.String("target", c.target))
	}
	if c.relay != nil {
		if c.address.IsValid() {
			attrs = append(attrs, slog.String("address", c.address.String()))
		}
		attrs = append(attrs,
			slog.Int64(cmp.Or(c.out, "bytes_to_target"), c.relay.FromEnclave()),
			slog.Int64(cmp.Or(c.in, "bytes_to_enclave"), c.relay.ToEnclave()))
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

func endOf(err error) string {
	var p *contain.PanicError
	var e *Error
	switch {
	case errors.As(err, &p):
		return endPanic
	case err == nil:
		return endClosed
	case errors.Is(err, errDrained):
		return endShutdown
	case errors.Is(err, errCut):
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
