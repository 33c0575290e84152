package vsockproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// maxAddresses bounds how many addresses of a name one connection tries.
const maxAddresses = 16

// dialTarget resolves the target, checks every address, and dials the checked
// addresses, never the name, in the resolver's order until one answers.
func (s *server) dialTarget(ctx context.Context) (net.Conn, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, s.dialTimeout)
	defer cancel()
	addrs, err := s.resolve(ctx)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	var failed error
	for i, addr := range addrs {
		address := netip.AddrPortFrom(addr, s.target.port)
		conn, err := dialShare(ctx, address, len(addrs)-i)
		if err == nil {
			return conn, address, nil
		}
		if failed == nil {
			failed = err
		} else {
			failed = fmt.Errorf("%w; %w", failed, err)
		}
	}
	return nil, netip.AddrPort{}, &Error{
		Op:     "dial",
		Reason: reasonOf(failed),
		Detail: fmt.Sprintf("the target %v does not answer on any of its %d usable addresses", s.target, len(addrs)),
		Err:    failed,
	}
}

// dialShare dials with an equal share of the time that is left, so that one
// address that swallows packets does not use up the time of the next.
func dialShare(ctx context.Context, address netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address.String())
}

// resolve returns the addresses of the target that may be dialled, at least one.
func (s *server) resolve(ctx context.Context) ([]netip.Addr, error) {
	if s.target.addr.IsValid() {
		return []netip.Addr{s.target.addr}, nil // on the allowlist itself
	}
	found, err := s.lookup(ctx)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("the name has no addresses")
	}
	if err != nil {
		reason := ReasonResolve
		if ctx.Err() != nil {
			reason = reasonOf(ctx.Err())
		}
		detail := fmt.Sprintf("the name of the target %v", s.target)
		if !strings.Contains(s.target.name, ".") {
			detail += " has one label and is neither completed by a search list nor found in /etc/hosts; write the full name or the address"
		}
		return nil, &Error{Op: "resolve", Reason: reason, Detail: detail, Err: err}
	}
	var usable []netip.Addr
	var refused error
	for _, addr := range found[:min(len(found), maxAddresses)] {
		if err := s.allow.checkAddress(addr, s.target.port); err != nil {
			refused = err
			continue
		}
		usable = append(usable, addr.Unmap())
	}
	if len(usable) == 0 {
		return nil, &Error{Op: "resolve", Reason: ReasonForbiddenAddress, Detail: fmt.Sprintf("the name of the target %v leads nowhere it may", s.target), Err: refused}
	}
	return usable, nil
}

// lookup asks the resolver, and waits no longer than ctx even if the resolver
// does.
func (s *server) lookup(ctx context.Context) ([]netip.Addr, error) {
	// Lookups that hang must not pile up without bound.
	select {
	case s.lookups <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%d lookups have not come back: %w", cap(s.lookups), ctx.Err())
	}
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			<-s.lookups
			answered <- a
		}()
		defer contain(&a.err)
		// The dot makes the name absolute. Without it a resolver may append the
		// domains of a search list, and reach another name than the one listed.
		a.addrs, a.err = s.resolver.LookupNetIP(ctx, "ip", s.target.name+".")
	}()
	select {
	case a := <-answered:
		return a.addrs, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("the resolver has not answered: %w", ctx.Err())
	}
}
