package vsockproxy

import (
	"context"
	"net"
)

// Route says how a [Proxy] learns where a connection is to go. Make one with
// [To], [Connect], [ServerName], [ToEnclave], [ToEnclaveProxyV2] or, inside the
// enclave, [ToParent]. It is a comparable value and safe to copy. The zero Route is
// none.
//
// Constructors do not fail. Serve checks what they were given.
//
// No route ends TLS. It runs between the enclave and the far end.
type Route struct{ way way }

// way is what a Route does.
type way interface {
	// check returns the way as p serves it, or what is wrong. p has its defaults
	// filled in.
	check(p *Proxy) (way, error)
	// reach connects to where the way leads, and notes in c what is known of that.
	reach(ctx context.Context, c *connection) (net.Conn, error)
	// String describes the way for people.
	String() string
}

// String describes r for people.
func (r Route) String() string {
	if r.way == nil {
		return "none"
	}
	return r.way.String()
}

// To is the route of every connection to one target, "host:port", which must be
// on the allowlist.
func To(hostport string) Route { return Route{toTarget{hostport: hostport}} }

// Connect lets each client name its target, by an HTTP CONNECT request (RFC 9110,
// section 9.3.6), so that one vsock port serves every entry of the allowlist. In
// the enclave set [Dialer.Connect]; every HTTP client that can use a proxy speaks
// it, too.
//
// The request is "CONNECT host:port HTTP/1.1" or 1.0, with header fields, none of
// which is believed or passed on, and without a body: Content-Length and
// Transfer-Encoding are refused. It must come within [Proxy.HandshakeTimeout] and
// have at most 8 KiB. What comes behind it is the stream, and
// may come before the answer.
//
// The answer is 200 once the target is reached. Otherwise it is one of
//
//	400 invalid-connect     the request is malformed
//	403 not-allowed         the target is not on the allowlist
//	408 timeout             the request was not complete in time
//	502 resolve-failed, forbidden-address, refused, unreachable, failed, canceled
//	504 timeout             the target does not answer
//
// with the [Reason] and a sentence in the status line, and the connection is
// closed. The answer has no addresses of the parent's network; the log has them.
func Connect() Route { return Route{byConnect{}} }

// ServerName sends each connection to the server that the client names in the
// first message of TLS (SNI, RFC 6066, section 3), at the given port. The pair
// must be on the allowlist. Clients need nothing but TLS. The message is read and
// passed on unchanged; TLS runs between the enclave and that server.
//
// A connection is closed, and the [Reason] logged, if the client does not begin
// with TLS (ReasonInvalidClientHello), names no server (ReasonNoServerName), names one by
// an address, with a final dot or otherwise than by a DNS name (ReasonInvalidServerName),
// or encrypts its ClientHello (ReasonEncryptedHello), which includes clients that
// only pretend to ("GREASE"). The message must come within
// [Proxy.HandshakeTimeout] and have at most 32 KiB.
func ServerName(port uint16) Route { return Route{byServerName{port: port}} }

// ToEnclave is the way in: a [Proxy] that listens on TCP on the parent forwards
// every connection to an endpoint where the enclave listens, such as
// Vsock(16, 8443) for an enclave with context ID 16. [Proxy.Allow] must be left
// empty, because nothing but that endpoint is reached.
//
// Everybody who reaches the listener reaches the enclave. TLS must end in the
// enclave, and the enclave must know its clients, by certificates for instance.
// Clients that open connections and say nothing hold them, up to [Proxy.MaxConns],
// until [Proxy.IdleTimeout], and ones that trickle bytes until [Proxy.MaxLifetime],
// which has no default: set both for clients that may be anybody.
func ToEnclave(e Endpoint) Route { return Route{intoEnclave{endpoint: e}} }

// ToEnclaveProxyV2 is [ToEnclave] with a header before the client's first byte
// that carries the client's address: the PROXY protocol, version 2, without
// extensions. A client that does not come over TCP is sent as unknown. The
// listener in the enclave must expect the header, and take what it says as a hint
// for logs: the parent writes it, and can write anything. [NewProxyV2Listener] is such a
// listener.
func ToEnclaveProxyV2(e Endpoint) Route { return Route{intoEnclave{endpoint: e, header: true}} }

// ToParent is for a [Proxy] inside the enclave, as a way out for programs that
// cannot be given a [Dialer]: it listens on the enclave's loopback interface (see
// [ListenLoopback]) and forwards every connection to where d leads. address is
// what d is to ask for if d.Connect is set, "host:port", and else may be empty. It
// is never the client that chooses, unless d does without Connect and the parent's
// proxy lets it. [Proxy.Allow] must be left empty: what may be reached is the
// parent's to say.
//
// What goes through must be TLS or its like, as with every Dialer, and must end in
// the program that connects. Port 80 is refused when Serve begins, with
// [ReasonPlaintext]. d.Timeout bounds the dialing; Proxy.DialTimeout does not.
func ToParent(d Dialer, address string) Route {
	return Route{toParent{dialer: d, address: address}}
}
