package vsockproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

// intoEnclave leads every connection to an endpoint where the enclave listens.
type intoEnclave struct {
	endpoint Endpoint
	header   bool // a PROXY header goes before the client's first byte
	timeout  time.Duration
}

func (w intoEnclave) String() string {
	if w.header {
		return "to the enclave at " + w.endpoint.String() + ", with a PROXY header"
	}
	return "to the enclave at " + w.endpoint.String()
}

func (w intoEnclave) check(p *Proxy) (way, error) {
	if err := w.endpoint.checkDial(); err != nil {
		return nil, optionsError("Proxy.Route", "%v; %s", err, acceptedForms)
	}
	if err := p.checkNoAllowlist(w); err != nil {
		return nil, err
	}
	w.timeout = p.DialTimeout
	return w, nil
}

// inboundNames are those of a connection that the target's side began.
var inboundNames = names{inbound: true, target: "the client", out: "bytes_to_client", in: "bytes_to_enclave"}

func (w intoEnclave) reach(ctx context.Context, c *connection) (net.Conn, error) {
	c.names = inboundNames
	c.target = w.endpoint.String()
	if w.header {
		c.early = preface.FormatProxyHeader(ipAddress(c.accepted.RemoteAddr()), ipAddress(c.accepted.LocalAddr()))
	}
	d := Dialer{Endpoint: w.endpoint, Timeout: w.timeout}
	far, err := d.DialContext(ctx, "", "")
	var e *Error
	if errors.As(err, &e) {
		e.Op = "Serve"
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

// ipAddress returns the IP address of a TCP connection, and else an invalid one.
func ipAddress(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	address := tcp.AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
}
