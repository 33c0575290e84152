package vsockproxy

import (
	"context"
	"net"
	"net/netip"

	"github.com/keyvouch/keyvouch/internal/loopback"
)

// ListenLoopback listens on hostport, an address of the loopback interface and a
// port such as "127.0.0.1:443", for a [Proxy] with the route [ToParent]. Inside an
// enclave it first brings that interface up, which needs root or CAP_NET_ADMIN.
//
// Any address of 127.0.0.0/8 will do, and each gives a port 443 of its own, so that
// several services can be had under their usual port: name them in /etc/hosts,
//
//	127.0.0.1 kms.eu-west-1.amazonaws.com
//	127.0.0.2 sts.eu-west-1.amazonaws.com
//
// and forward each to where its name says. Other addresses are refused with
// [ReasonEndpoint], names among them: whoever reached them would reach what the
// parent lets this enclave reach. Ports below 1024 need root or
// CAP_NET_BIND_SERVICE. Errors are *Error.
func ListenLoopback(ctx context.Context, hostport string) (net.Listener, error) {
	e := TCP(hostport)
	if addr, err := netip.ParseAddrPort(hostport); err != nil || !addr.Addr().IsLoopback() || addr.Addr().Zone() != "" {
		return nil, &Error{Op: "listen", Endpoint: e, Reason: ReasonEndpoint, Detail: "this is not an address of the loopback interface with a port, such as 127.0.0.1:443 or [::1]:443"}
	}
	if err := loopback.Up(); err != nil {
		failed := &Error{Op: "loopback", Reason: reasonOf(err), Detail: "the loopback interface is not up", Err: err}
		if failed.Reason == ReasonPermission {
			failed.Detail += "; run as root or with CAP_NET_ADMIN, or let the init of the enclave do it"
		}
		return nil, failed
	}
	return Listen(ctx, e)
}

// reachParent is the enclave's end of the way out.
func (s *server) reachParent(ctx context.Context, c *connection) (net.Conn, error) {
	d := s.route.parent
	c.target = s.route.target
	if c.target == "" {
		c.target = d.Endpoint.String()
	}
	return d.DialContext(ctx, "tcp", s.route.target)
}
