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
// [ReasonInvalidEndpoint], names among them: whoever reached them would reach what the
// parent lets this enclave reach. Ports below 1024 need root or
// CAP_NET_BIND_SERVICE. Errors are *Error.
func ListenLoopback(ctx context.Context, hostport string) (net.Listener, error) {
	e := TCP(hostport)
	if addr, err := netip.ParseAddrPort(hostport); err != nil || !addr.Addr().IsLoopback() || addr.Addr().Zone() != "" {
		return nil, &Error{Op: "ListenLoopback", Endpoint: e, Reason: ReasonInvalidEndpoint, Detail: "this is not an address of the loopback interface with a port, such as 127.0.0.1:443 or [::1]:443"}
	}
	if err := loopback.Up(); err != nil {
		failed := &Error{Op: "ListenLoopback", Reason: reasonOf(err), Detail: "the loopback interface is not up", Err: err}
		if failed.Reason == ReasonPermission {
			failed.Detail += "; run as root or with CAP_NET_ADMIN, or let the init of the enclave do it"
		}
		return nil, failed
	}
	return Listen(ctx, e)
}

// toParent leads every connection to where a Dialer leads.
type toParent struct {
	dialer  Dialer
	address string // what the Dialer asks for
}

func (w toParent) String() string {
	if w.address == "" {
		return "to the parent at " + w.dialer.Endpoint.String()
	}
	return "to " + w.address + " by the parent at " + w.dialer.Endpoint.String()
}

func (w toParent) check(p *Proxy) (way, error) {
	if _, _, err := w.dialer.check(w.address); err != nil {
		err.Op, err.Field = "Serve", "Proxy.Route"
		return nil, err
	}
	return w, p.checkNoAllowlist(w)
}

// parentNames are those of a connection inside the enclave.
var parentNames = names{enclave: "the client", target: "the parent", out: "bytes_to_parent", in: "bytes_to_client"}

func (w toParent) reach(ctx context.Context, c *connection) (net.Conn, error) {
	c.names = parentNames
	c.target = w.address
	if c.target == "" {
		c.target = w.dialer.Endpoint.String()
	}
	return w.dialer.DialContext(ctx, "tcp", w.address)
}
