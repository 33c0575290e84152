package vsockproxy

import (
	"fmt"
	"net/netip"
)

// AddressFamily says which addresses of a target a [Proxy] may dial.
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
)

// String returns "any", "IPv4 only" or "IPv6 only".
func (f AddressFamily) String() string {
	switch f {
	case AnyFamily:
		return "any"
	case IPv4Only:
		return "IPv4 only"
	case IPv6Only:
		return "IPv6 only"
	}
	return fmt.Sprintf("AddressFamily(%d)", uint8(f))
}

func (f AddressFamily) check() error {
	if f > IPv6Only {
		return fmt.Errorf("%v is none of AnyFamily, IPv4Only and IPv6Only", f)
	}
	return nil
}

// has reports whether addr, which is not IPv4-mapped, may be dialled.
func (f AddressFamily) has(addr netip.Addr) bool {
	switch f {
	case IPv4Only:
		return addr.Is4()
	case IPv6Only:
		return addr.Is6()
	}
	return f == AnyFamily
}
