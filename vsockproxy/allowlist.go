package vsockproxy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxHostLength is the longest host name in bytes (RFC 1035, section 2.3.4: 255
// octets on the wire, which is 253 characters of text), and maxLabelLength the
// longest label.
const (
	maxHostLength  = 253
	maxLabelLength = 63
)

// Allowlist is the set of targets that a [Proxy] may connect to. It is immutable
// and safe for concurrent use; build it with [ParseAllowlist]. The zero Allowlist
// is empty, and a Proxy refuses to start with it.
type Allowlist struct {
	entries map[target]bool
}

// target is a host and a port in normal form, so that equal targets are ==.
type target struct {
	name string     // lower case, no trailing dot; empty for an address
	addr netip.Addr // valid for an address; never IPv4-mapped
	port uint16
}

func (t target) String() string {
	host := t.name
	if t.addr.IsValid() {
		host = t.addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.port)))
}

// ParseAllowlist builds an allowlist from entries "host:port", where host is one
// exact DNS name or one IP address (IPv6 in brackets), and port is 1 to 65535.
// Names are compared without regard to case and to one trailing dot. There are
// no wildcards, no networks and no implied ports. A malformed entry, or no entry
// at all, is an *Error with [ReasonAllowlist].
//
// Every name is absolute, with the dot or without: a [Proxy] never completes it
// by the search list of resolv.conf(5). A name of one label, such as "kms", is thus
// a top-level domain, and resolvers do not find it in /etc/hosts, not even
// "localhost": list the full name or the address.
//
// A name on the list does not cover the loopback, link-local, private and other
// special addresses it may resolve to (see the package documentation): to reach
// one, list the address itself too.
func ParseAllowlist(entries ...string) (Allowlist, error) {
	if len(entries) == 0 {
		return Allowlist{}, &Error{Op: "parse", Reason: ReasonAllowlist, Detail: "the allowlist is empty; name at least one host:port, such as kms.eu-west-1.amazonaws.com:443"}
	}
	a := Allowlist{entries: make(map[target]bool, len(entries))}
	for i, entry := range entries {
		t, err := parseTarget(entry)
		if err != nil {
			return Allowlist{}, &Error{Op: "parse", Reason: ReasonAllowlist, Detail: fmt.Sprintf("entry %d of the allowlist: %v", i+1, err)}
		}
		a.entries[t] = true
	}
	return a, nil
}

func (a Allowlist) allows(t target) bool { return a.entries[t] }

// checkAddress says why a name may not lead to addr, or nil.
func (a Allowlist) checkAddress(addr netip.Addr, port uint16) error {
	if a.allows(target{addr: addr.Unmap(), port: port}) {
		return nil
	}
	if class := specialClass(addr); class != "" {
		return fmt.Errorf("%v is %s; if it is meant, list %v itself", addr, class, netip.AddrPortFrom(addr, port))
	}
	return nil
}

// parseTarget reads "host:port".
func parseTarget(s string) (target, error) {
	if s == "" {
		return target{}, fmt.Errorf("the target is empty; write host:port")
	}
	if len(s) > MaxEndpointLength {
		return target{}, fmt.Errorf("the target is %d bytes long; the limit is %d", len(s), MaxEndpointLength)
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		return target{}, fmt.Errorf("%q is not host:port (the port is required; an IPv6 address goes in brackets)", s)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != portText {
		return target{}, fmt.Errorf("%q: port %q is not a decimal number between 1 and 65535", s, portText)
	}
	name, addr, err := parseHost(host)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", s, err)
	}
	return target{name: name, addr: addr, port: uint16(port)}, nil
}

// parseHost reads a DNS name or an IP address into normal form.
func parseHost(host string) (name string, addr netip.Addr, err error) {
	if host == "" {
		return "", addr, fmt.Errorf("the host is empty")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return "", netip.Addr{}, fmt.Errorf("the address has a zone, which is not supported")
		}
		return "", addr.Unmap(), nil
	}
	name = strings.ToLower(strings.TrimSuffix(host, "."))
	if len(name) > maxHostLength {
		return "", addr, fmt.Errorf("the name is %d bytes long; the limit is %d", len(name), maxHostLength)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return "", addr, err
		}
	}
	// Some resolvers read 127.1 or 0x7f.1 as an address (inet_aton(3)); no
	// top-level domain starts with a digit.
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return "", addr, fmt.Errorf("the name ends in %q, which is neither a domain nor a complete IP address", last)
	}
	return name, addr, nil
}

func checkLabel(label string) error {
	if label == "" {
		return fmt.Errorf("the name has an empty label")
	}
	if len(label) > maxLabelLength {
		return fmt.Errorf("a label of the name is %d bytes long; the limit is %d", len(label), maxLabelLength)
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("label %q starts or ends with a hyphen", label)
	}
	for _, c := range []byte(label) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '*':
			return fmt.Errorf("wildcards are not supported; list each name")
		default:
			return fmt.Errorf("label %q has the byte %q; write international names in their xn-- form", label, c)
		}
	}
	return nil
}
