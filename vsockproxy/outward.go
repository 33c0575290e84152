package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// toTarget leads every connection to one target.
type toTarget struct {
	hostport string
	target   rules.Target // parsed
	targets  *targetDialer
}

func (w toTarget) String() string { return "to " + w.hostport }

func (w toTarget) check(p *Proxy) (way, error) {
	targets, allow, err := p.targets()
	if err != nil {
		return nil, err
	}
	if w.target, err = rules.ParseTarget(w.hostport); err != nil {
		return nil, optionsError("Proxy.Route", "%v", err)
	}
	if !allow.list.Lists(w.target) {
		return nil, &Error{Op: "Serve", Reason: ReasonNotAllowed, Field: "Proxy.Route", Detail: allow.list.Check(w.target, rules.Source{}).Error()}
	}
	if w.target.Addr.IsValid() && !p.AddressFamily.has(w.target.Addr) {
		return nil, optionsError("Proxy.AddressFamily", "it is %v, and the target is %v", p.AddressFamily, w.target)
	}
	w.targets = targets
	return w, nil
}

func (w toTarget) reach(ctx context.Context, c *connection) (net.Conn, error) {
	return w.targets.reach(ctx, c, w.target)
}

// byServerName leads each connection to the server that its ClientHello names.
type byServerName struct {
	port    uint16
	targets *targetDialer
	patience
}

func (w byServerName) String() string { return fmt.Sprintf("by server name, to port %d", w.port) }

func (w byServerName) check(p *Proxy) (way, error) {
	targets, _, err := p.targets()
	if err != nil {
		return nil, err
	}
	if w.port == 0 {
		return nil, optionsError("Proxy.Route", "a server has no port 0; use ServerName(443)")
	}
	w.targets, w.patience = targets, patience(p.HandshakeTimeout)
	return w, nil
}

func (w byServerName) reach(ctx context.Context, c *connection) (net.Conn, error) {
	var name string
	err := w.read(ctx, c.accepted, "ClientHello", func() (err error) {
		c.early, name, err = preface.ReadClientHello(c.accepted)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w.targets.reach(ctx, c, rules.Target{Name: name, Port: w.port})
}

// patience is how long a client may take to say where it wants to go.
type patience time.Duration

// errUnfinished is beneath the error for a client that took longer.
var errUnfinished = errors.New("the client has not finished")

// read reads that from a client. One time limit covers all of it, however the client
// cuts it up.
func (p patience) read(ctx context.Context, client net.Conn, what string, read func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p))
	defer cancel()
	err := handshake(ctx, client, read)
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*preface.Error)):
		return refusal("Serve", "client", err)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Op: "Serve", Reason: ReasonTimeout, Field: "client", Detail: fmt.Sprintf("no whole %s within the handshake timeout of %v", what, time.Duration(p)), Err: errUnfinished}
	case ctx.Err() != nil:
		return &Error{Op: "Serve", Reason: ReasonCanceled, Field: "client", Detail: fmt.Sprintf("the proxy ends, and the client has not finished its %s", what)}
	}
	return fmt.Errorf("read the client's %s: %w", what, err)
}

// endsEarly reports whether err says that the stream ended.
func endsEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
