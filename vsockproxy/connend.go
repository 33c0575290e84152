package vsockproxy

import (
	"net"
	"time"
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
	e.CID = sourceOf(conn).cid
}
