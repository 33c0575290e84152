package vsockproxy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// interleave orders addresses so that families alternate, and each family keeps
// its order (RFC 8305, section 4): a family without a way out costs one delay, not
// one for each of its addresses. The family of the first begins, unless another is
// preferred.
func interleave(addrs []netip.Addr, family AddressFamily) []netip.Addr {
	four := family.beginsWithIPv4(addrs[0])
	var first, second []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() == four {
			first = append(first, addr)
		} else {
			second = append(second, addr)
		}
	}
	mixed := make([]netip.Addr, 0, len(addrs))
	for len(first) > 0 && len(second) > 0 {
		mixed = append(mixed, first[0], second[0])
		first, second = first[1:], second[1:]
	}
	return append(append(mixed, first...), second...)
}

// dialFunc connects to an address.
type dialFunc func(ctx context.Context, address netip.AddrPort) (net.Conn, error)

// dialFirst dials the addresses in their order until one answers: the next is
// begun when one has failed, or has not answered for attemptDelay, while the
// earlier ones go on (RFC 8305, section 5). When it returns, every attempt has
// ended and every connection but the one returned is closed.
func dialFirst(ctx context.Context, addresses []netip.AddrPort, dial dialFunc) (net.Conn, netip.AddrPort, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn    net.Conn
		address netip.AddrPort
		err     error
	}
	results := make(chan result)
	begun, ended := 0, 0
	begin := func() {
		address := addresses[begun]
		begun++
		go func() {
			r := result{address: address}
			defer func() { results <- r }()
			defer contain.Panic(&r.err)
			r.conn, r.err = dial(ctx, address)
		}()
	}
	// The losers are cut by cancel, and one may have connected all the same.
	defer func() {
		cancel()
		for ; ended < begun; ended++ {
			if r := <-results; r.err == nil {
				_ = r.conn.Close()
			}
		}
	}()

	var failed error
	delay := time.NewTimer(attemptDelay)
	defer delay.Stop()
	begin()
	for {
		select {
		case r := <-results:
			ended++
			if r.err == nil {
				return r.conn, r.address, nil
			}
			if failed == nil {
				failed = r.err
			} else {
				failed = fmt.Errorf("%w; %w", failed, r.err)
			}
			// After the end of ctx no attempt can succeed.
			if begun < len(addresses) && ctx.Err() == nil {
				begin()
				delay.Reset(attemptDelay)
			} else if ended == begun {
				return nil, netip.AddrPort{}, failed
			}
		case <-delay.C:
			if begun < len(addresses) && ctx.Err() == nil {
				begin()
				delay.Reset(attemptDelay)
			}
		}
	}
}
