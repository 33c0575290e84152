package vsockproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// targetDialer connects to targets that the rules in force permit.
type targetDialer struct {
	allow    func() Allowlist
	resolver Resolver
	family   AddressFamily
	timeout  time.Duration
	lookups  chan struct{} // counts lookups, so that those that hang are bounded
}

// reach connects to a target if the client of c may reach it.
func (d *targetDialer) reach(ctx context.Context, c *connection, t rules.Target) (net.Conn, error) {
	c.target = t.String()
	far, address, err := d.dial(ctx, t, sourceOf(c.accepted))
	c.address = address
	return far, err
}

// dial checks that who asks may reach t by the rules in force now, resolves
// it, checks every address, and dials the checked addresses, never the name.
func (d *targetDialer) dial(ctx context.Context, t rules.Target, from rules.Source) (net.Conn, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	addrs, err := d.resolve(ctx, t, from)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addresses := make([]netip.AddrPort, len(addrs))
	for i, addr := range addrs {
		addresses[i] = netip.AddrPortFrom(addr, t.Port)
	}
	dialOne := func(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address.String())
	}
	var conn net.Conn
	address := addresses[0]
	if len(addresses) == 1 {
		conn, err = dialOne(ctx, address) // a race of one needs no goroutine
	} else {
		conn, address, err = dialFirst(ctx, addresses, dialOne)
	}
	if err != nil {
		return nil, netip.AddrPort{}, &Error{
			Op:     "Serve",
			Field:  "target",
			Reason: reasonOf(err),
			Detail: fmt.Sprintf("the target %v does not answer on any of its usable addresses (%d)", t, len(addrs)),
			Err:    err,
		}
	}
	return conn, address, nil
}

// resolve returns the addresses of t that may be dialed for who asks, at least
// one.
func (d *targetDialer) resolve(ctx context.Context, t rules.Target, from rules.Source) ([]netip.Addr, error) {
	allow := d.allow() // once, so that name and addresses are judged by the same rules
	if err := allow.list.Check(t, from); err != nil {
		// The client is told the Detail, which must not say what others may reach.
		// The log gets all of it.
		refused := &Error{Op: "Serve", Field: "target", Reason: ReasonNotAllowed, Detail: fmt.Sprintf("the target %v is not on the allowlist for this client; list it, or correct it", t)}
		if allow.list.Lists(t) {
			refused.Err = err
		}
		return nil, refused
	}
	if t.Addr.IsValid() {
		if !d.family.has(t.Addr) {
			return nil, &Error{Op: "Serve", Field: "target", Reason: ReasonUnreachable, Detail: fmt.Sprintf("the target %v is not of the address family of the proxy (%v)", t, d.family)}
		}
		return []netip.Addr{t.Addr}, nil // on the allowlist itself
	}
	found, err := d.lookup(ctx, t)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the name has no addresses")
	}
	if err != nil {
		reason := ReasonResolve
		if ctx.Err() != nil {
			reason = reasonOf(ctx.Err())
		}
		detail := fmt.Sprintf("the name of the target %v", t)
		if !strings.Contains(t.Name, ".") {
			detail += " has one label and is neither completed by a search list nor found in /etc/hosts; write the full name or the address"
		}
		return nil, &Error{Op: "Serve", Field: "target", Reason: reason, Detail: detail, Err: err}
	}
	var usable []netip.Addr
	var refused error
	for _, addr := range found[:min(len(found), maxAnswer)] {
		if !d.family.has(addr.Unmap()) {
			continue
		}
		if err := allow.list.CheckAddress(addr, t.Port, from); err != nil {
			refused = err
			continue
		}
		usable = append(usable, addr.Unmap())
	}
	switch {
	case len(usable) > 0:
		usable = interleave(usable, d.family)
		return usable[:min(len(usable), maxAddresses)], nil
	case refused != nil:
		return nil, &Error{Op: "Serve", Field: "target", Reason: ReasonForbiddenAddress, Detail: fmt.Sprintf("the name of the target %v leads nowhere it may", t), Err: refused}
	}
	return nil, &Error{Op: "Serve", Field: "target", Reason: ReasonResolve, Detail: fmt.Sprintf("the name of the target %v has none of the address family of the proxy (%v) among its addresses (%d)", t, d.family, len(found))}
}

// lookup asks the resolver, and waits no longer than ctx even if the resolver
// does.
func (d *targetDialer) lookup(ctx context.Context, t rules.Target) ([]netip.Addr, error) {
	// Lookups that hang must not pile up without bound.
	select {
	case d.lookups <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d lookups have not come back: %w", cap(d.lookups), ctx.Err())
	}
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			<-d.lookups
			answered <- a
		}()
		defer contain.Panic(&a.err)
		// The dot makes the name absolute. Without it a resolver may append the
		// domains of a search list, and reach another name than the one listed.
		a.addrs, a.err = d.resolver.LookupNetIP(ctx, "ip", t.Name+".")
	}()
	select {
	case a := <-answered:
		return a.addrs, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the resolver has not answered: %w", ctx.Err())
	}
}
