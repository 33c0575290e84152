package rules

import "net/netip"

// special lists the address blocks that a listed name may not lead to: whoever
// controls a name's DNS must not choose which inside service the proxy reaches.
// Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890),
// and AWS's user guides of EC2 (instance metadata), ECS (task metadata endpoint)
// and EKS (Pod Identity agent). First match wins.
var special = []struct {
	prefix netip.Prefix
	class  string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified (RFC 1122)"},
	{netip.MustParsePrefix("10.0.0.0/8"), "private (RFC 1918)"},
	{netip.MustParsePrefix("100.64.0.0/10"), "shared address space (RFC 6598)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback (RFC 1122)"},
	{netip.MustParsePrefix("169.254.169.254/32"), "EC2 instance metadata"},
	{netip.MustParsePrefix("169.254.170.2/32"), "ECS task metadata and credentials"},
	{netip.MustParsePrefix("169.254.170.23/32"), "EKS pod credentials"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local (RFC 3927)"},
	{netip.MustParsePrefix("172.16.0.0/12"), "private (RFC 1918)"},
	{netip.MustParsePrefix("192.0.0.0/24"), "reserved for protocols (RFC 6890)"},
	{netip.MustParsePrefix("192.0.2.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("192.88.99.0/24"), "6to4 relay (RFC 7526)"},
	{netip.MustParsePrefix("192.168.0.0/16"), "private (RFC 1918)"},
	{netip.MustParsePrefix("198.18.0.0/15"), "benchmarking (RFC 2544)"},
	{netip.MustParsePrefix("198.51.100.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("203.0.113.0/24"), "documentation (RFC 5737)"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast (RFC 5771)"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved or broadcast (RFC 1112, RFC 919)"},

	{netip.MustParsePrefix("::/128"), "unspecified (RFC 4291)"},
	{netip.MustParsePrefix("::1/128"), "loopback (RFC 4291)"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "EC2 instance metadata"},
	{netip.MustParsePrefix("fd00:ec2::23/128"), "EKS pod credentials"},
	{netip.MustParsePrefix("fc00::/7"), "unique local (RFC 4193)"},
	{netip.MustParsePrefix("fe80::/10"), "link-local (RFC 4291)"},
	{netip.MustParsePrefix("ff00::/8"), "multicast (RFC 4291)"},
	{netip.MustParsePrefix("2001::/23"), "reserved for protocols (RFC 2928)"},
	{netip.MustParsePrefix("2001:db8::/32"), "documentation (RFC 3849)"},
	{netip.MustParsePrefix("3fff::/20"), "documentation (RFC 9637)"},
}

var (
	nat64         = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	localNAT64    = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour     = netip.MustParsePrefix("2002::/16")      // RFC 3056
	globalUnicast = netip.MustParsePrefix("2000::/3")       // all that IANA has allocated
)

// specialBlock names the class of an address that is not plainly public, and the
// block that it is in; the block is not valid where the class is not of a block.
// For a public address the class is empty. An IPv6 address that carries an IPv4
// address is what the IPv4 address is.
func specialBlock(addr netip.Addr) (block netip.Prefix, class string) {
	if !addr.IsValid() {
		return netip.Prefix{}, "not an address"
	}
	if addr.Zone() != "" {
		return netip.Prefix{}, "bound to an interface"
	}
	addr = addr.Unmap()
	if nat64.Contains(addr) {
		b := addr.As16()
		block, class := specialBlock(netip.AddrFrom4([4]byte(b[12:])))
		if class == "" {
			return netip.Prefix{}, ""
		}
		return netip.PrefixFrom(addr, nat64.Bits()+block.Bits()).Masked(), "NAT64 (RFC 6052) of an address that is " + class
	}
	// These carry IPv4 addresses, too, the metadata service's among them, and where
	// in the address is up to the network. So they have no block for a rule to lie in.
	switch {
	case localNAT64.Contains(addr):
		return netip.Prefix{}, "local NAT64 (RFC 8215)"
	case sixToFour.Contains(addr):
		return netip.Prefix{}, "6to4 (RFC 3056)"
	}
	for _, s := range special {
		if s.prefix.Contains(addr) {
			return s.prefix, s.class
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) {
		return netip.Prefix{}, "not a global unicast address"
	}
	return netip.Prefix{}, ""
}
