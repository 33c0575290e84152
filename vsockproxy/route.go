package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/mdlayher/vsock"
)

// Route says how a [Proxy] learns where a connection is to go. Make one with
// [To], [Connect], [ServerName], [ToEnclave], [ToEnclaveProxyV2] or, inside the
// enclave, [ToParent]. It is a comparable value and safe to copy. The zero Route is
// none: the Proxy then has its Target.
//
// Constructors do not fail; what they were given is checked by Serve.
//
// No route ends TLS. It runs between the enclave and the far end.
type Route struct {
	kind    routeKind
	target  string
	port    uint16
	enclave Endpoint
	parent  Dialer // of the route ToParent, whose target is what it asks for
}

type routeKind uint8

const (
	routeNone routeKind = iota
	routeTo
	routeConnect
	routeServerName
	routeToEnclave
	routeToEnclaveProxyV2
	routeToParent
)

// To is the route of every connection to one target, "host:port", which must be
// on the allowlist. Setting [Proxy.Target] is the same, and shorter.
func To(hostport string) Route { return Route{kind: routeTo, target: hostport} }

// Connect lets each client name its target, by an HTTP CONNECT request (RFC 9110,
// section 9.3.6), so that one vsock port serves every entry of the allowlist. In
// the enclave set [Dialer.Connect]; every HTTP client that can use a proxy speaks
// it, too.
//
// The request is "CONNECT host:port HTTP/1.1" or 1.0, with header fields, none of
// which is believed or passed on, and without a body: Content-Length and
// Transfer-Encoding are refused. It must come within [Proxy.HandshakeTimeout] and
// have at most [MaxConnectRequest] bytes. What comes behind it is the stream, and
// may come before the answer.
//
// The answer is 200 once the target is reached. Otherwise it is one of
//
//	400 bad-connect         the request is malformed
//	403 not-allowed         the target is not on the allowlist
//	408 timeout             the request was not complete in time
//	502 resolve-failed, forbidden-address, refused, unreachable, failed, canceled
//	504 timeout             the target does not answer
//
// with the [Reason] and a sentence in the status line, and the connection is
// closed. The answer has no addresses of the parent's network; the log has them.
func Connect() Route { return Route{kind: routeConnect} }

// ServerName sends each connection to the server that the client names in the
// first message of TLS (SNI, RFC 6066, section 3), at the given port. The pair
// must be on the allowlist. Clients need nothing but TLS. The message is read and
// passed on unchanged; TLS runs between the enclave and that server.
//
// A connection is closed, and the [Reason] logged, if the client does not begin
// with TLS (ReasonClientHello), names no server (ReasonNoServerName), names one by
// an address, with a final dot or otherwise than by a DNS name (ReasonServerName),
// or encrypts its ClientHello (ReasonEncryptedHello), which includes clients that
// only pretend to ("GREASE"). The message must come within
// [Proxy.HandshakeTimeout] and have at most [MaxClientHello] bytes.
func ServerName(port uint16) Route { return Route{kind: routeServerName, port: port} }

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
func ToEnclave(e Endpoint) Route { return Route{kind: routeToEnclave, enclave: e} }

// ToEnclaveProxyV2 is [ToEnclave] with a header before the client's first byte
// that carries the client's address: the PROXY protocol, version 2, without
// extensions. A client that does not come over TCP is sent as unknown. The
// listener in the enclave must expect the header, and take what it says as a hint
// for logs: the parent writes it, and can write anything. [AcceptProxyV2] is such a
// listener.
func ToEnclaveProxyV2(e Endpoint) Route { return Route{kind: routeToEnclaveProxyV2, enclave: e} }

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
// [ReasonPlaintext]. d.Timeout bounds the dialling; Proxy.DialTimeout does not.
func ToParent(d Dialer, address string) Route {
	return Route{kind: routeToParent, parent: d, target: address}
}

// String describes r for people.
func (r Route) String() string {
	switch r.kind {
	case routeTo:
		return "to " + r.target
	case routeConnect:
		return "HTTP CONNECT"
	case routeServerName:
		return fmt.Sprintf("by server name, to port %d", r.port)
	case routeToEnclave:
		return "to the enclave at " + r.enclave.String()
	case routeToEnclaveProxyV2:
		return "to the enclave at " + r.enclave.String() + ", with a PROXY header"
	case routeToParent:
		if r.target == "" {
			return "to the parent at " + r.parent.Endpoint.String()
		}
		return "to " + r.target + " by the parent at " + r.parent.Endpoint.String()
	}
	return "none"
}

func (r Route) isInbound() bool {
	return r.kind == routeToEnclave || r.kind == routeToEnclaveProxyV2
}

// checkRoute checks Target, Route and the allowlist together, and returns the
// route, for a fixed one its target, and where to find the rules in force.
func (p *Proxy) checkRoute() (Route, target, func() Allowlist, error) {
	fail := func(err error) (Route, target, func() Allowlist, error) { return Route{}, target{}, nil, err }
	r, field := p.Route, "Proxy.Route"
	switch {
	case r == Route{}:
		r, field = To(p.Target), "Proxy.Target"
	case p.Target != "":
		return fail(configError("both Proxy.Target and Proxy.Route are set; Target is short for the route To(target)"))
	}
	if err := p.AddressFamily.check(); err != nil {
		return fail(configError("Proxy.AddressFamily: %v", err))
	}
	switch {
	case r.isInbound():
		if err := r.enclave.checkDial(); err != nil {
			return fail(configError("%s: %v; %s", field, err, acceptedForms))
		}
	case r.kind == routeToParent:
		if _, _, err := r.parent.check(r.target); err != nil {
			err.Op, err.Endpoint = "serve", Endpoint{}
			err.Detail = field + ": " + err.Detail
			return fail(err)
		}
	}
	if r.isInbound() || r.kind == routeToParent {
		if len(p.Allow.entries) > 0 || p.AllowFrom != nil {
			return fail(configError("Proxy.Allow or Proxy.AllowFrom is set, and the route %v has no use for it: it does not restrict clients", r))
		}
		return r, target{}, nil, nil
	}
	allow, now, err := p.allowlist()
	if err != nil {
		return fail(err)
	}
	switch r.kind {
	case routeServerName:
		if r.port == 0 {
			return fail(configError("%s: a server has no port 0; use ServerName(443)", field))
		}
	case routeTo:
		t, err := parseTarget(r.target)
		if err != nil {
			return fail(configError("%s: %v", field, err))
		}
		if !now.lists(t) {
			return fail(&Error{Op: "serve", Reason: ReasonNotAllowed, Detail: now.check(t, source{}).Error()})
		}
		if t.addr.IsValid() && !p.AddressFamily.has(t.addr) {
			return fail(configError("%s is %v, and Proxy.AddressFamily is %v", field, t, p.AddressFamily))
		}
		return r, t, allow, nil
	}
	return r, target{}, allow, nil
}

// reach connects to where the route leads. What it has read from the client on
// the way is in c.early.
func (s *server) reach(ctx context.Context, c *connection) (net.Conn, error) {
	switch s.route.kind {
	case routeConnect:
		return s.reachByConnect(ctx, c)
	case routeServerName:
		return s.reachByServerName(ctx, c)
	case routeToEnclave, routeToEnclaveProxyV2:
		return s.reachEnclave(ctx, c)
	case routeToParent:
		return s.reachParent(ctx, c)
	}
	return s.reachTarget(ctx, c, s.target)
}

// reachTarget connects to a target if the client may reach it.
func (s *server) reachTarget(ctx context.Context, c *connection, t target) (net.Conn, error) {
	c.target = t.String()
	far, address, err := s.dialTarget(ctx, t, sourceOf(c.accepted))
	c.address = address
	return far, err
}

func (s *server) reachByServerName(ctx context.Context, c *connection) (net.Conn, error) {
	var name string
	err := s.handshake(ctx, c.accepted, "ClientHello", func() (err error) {
		c.early, name, err = readClientHello(c.accepted)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.reachTarget(ctx, c, target{name: name, port: s.route.port})
}

func (s *server) reachEnclave(ctx context.Context, c *connection) (net.Conn, error) {
	c.target = s.route.enclave.String()
	if s.route.kind == routeToEnclaveProxyV2 {
		c.early = proxyHeader(c.accepted)
	}
	d := Dialer{Endpoint: s.route.enclave, Timeout: s.dialTimeout}
	far, err := d.DialContext(ctx, "", "")
	var e *Error
	if errors.As(err, &e) {
		// The Dialer's advice is for those who look for a parent.
		if advice, ok := inboundAdvice[e.Reason]; ok {
			e.Detail = advice
		}
	}
	return far, err
}

var inboundAdvice = map[Reason]string{
	ReasonRefused:     "the enclave is there, and nothing accepts on that port; does its server run, and listen there?",
	ReasonUnreachable: "there is no enclave; does it run, and with that context ID or socket? (nitro-cli describe-enclaves lists the IDs)",
	ReasonTimeout:     "the enclave does not accept in time; is its server stuck?",
}

// admit counts c among the connections of its peer's context ID. The caller calls
// leave when c has ended.
func (s *server) admit(c *connection) (leave func(), err error) {
	peer, ok := c.accepted.RemoteAddr().(*vsock.Addr)
	if !ok || s.maxConnsPerCID == 0 {
		return func() {}, nil
	}
	cid := peer.ContextID
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.perCID[cid] >= s.maxConnsPerCID {
		return nil, &Error{Op: "serve", Reason: ReasonLimit, Detail: fmt.Sprintf("context ID %d has %d connections open, and Proxy.MaxConnsPerCID allows no more", cid, s.maxConnsPerCID)}
	}
	s.perCID[cid]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.perCID[cid]--; s.perCID[cid] == 0 {
			delete(s.perCID, cid)
		}
	}, nil
}
