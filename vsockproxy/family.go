package vsockproxy

import (
	"fmt"
	"net/netip"
)

// AddressFamily says which addresses of a target a [Proxy] may dial, and which
// first.
type AddressFamily uint8

// The address families.
const (
	// AnyFamily takes IPv4 and IPv6 addresses; the resolver's order says which
	// is preferred. Go's resolver puts first what the machine has a route for
	// (RFC 6724).
	AnyFamily AddressFamily = iota
	// IPv4Only takes IPv4 addresses only, as the option -4 of AWS's vsock-proxy.
	IPv4Only
	// IPv6Only takes IPv6 addresses only, as the option -6.
	IPv6Only
	// PreferIPv4 takes both, and begins with an IPv4 address if there is one,
	// whatever the resolver's order. IPv6 addresses are dialed where IPv4 ones
	// fail or are slow.
	PreferIPv4
	// PreferIPv6 is the same the other way round.
	PreferIPv6
)

// String returns "any", "IPv4 only", "IPv6 only", "IPv4 preferred" or
// "IPv6 preferred".
func (f AddressFamily) String() string {
	switch f {
	case AnyFamily:
		return "any"
	case IPv4Only:
		return "IPv4 only"
	case IPv6Only:
		return "IPv6 only"
	case PreferIPv4:
		return "IPv4 preferred"
	case PreferIPv6:
		return "IPv6 preferred"
	}
	return fmt.Sprintf("AddressFamily(%d)", uint8(f))
}

func (f AddressFamily) check() error {
	if f > PreferIPv6 {
		return fmt.Errorf("%v is none of AnyFamily, IPv4Only, IPv6Only, PreferIPv4 and PreferIPv6", f)
	}
	return nil
}

// has reports whether addr, which is not IPv4-mapped, may be dialed.
func (f AddressFamily) has(addr netip.Addr) bool {
	switch f {
	case IPv4Only:
		return addr.Is4()
	case IPv6Only:
		return addr.Is6()
	}
	return true
}

// beginsWithIPv4 reports of which family the first address to dial is, where the
// resolver has put first at the beginning.
func (f AddressFamily) beginsWithIPv4(first netip.Addr) bool {
	switch f {
	case PreferIPv4:
		return true
	case PreferIPv6:
		return false
	}
	return first.Is4()
}
