package vsockproxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/vsock"
)

// maxHostLength is the longest host name in bytes (RFC 1035, section 2.3.4: 255
// octets on the wire, which is 253 characters of text), and maxLabelLength the
// longest label.
const (
	maxHostLength  = 253
	maxLabelLength = 63
)

// MaxAllowlistEntries is the most entries that an [Allowlist] may have.
const MaxAllowlistEntries = 4096

// Allowlist is the set of targets that a [Proxy] may connect to. It is immutable
// and safe for concurrent use; build it with [ParseAllowlist] or by package allowfile. The zero Allowlist is empty, and a Proxy refuses to start
// with it.
type Allowlist struct {
	entries []rule
}

// Entries returns the entries in their order and in normal form, as
// [ParseAllowlist] reads them: to log, print or compare what is in force.
func (a Allowlist) Entries() []string {
	entries := make([]string, len(a.entries))
	for i, r := range a.entries {
		entries[i] = r.String()
	}
	return entries
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

// ParseAllowlist builds an allowlist from entries "host:ports" or
// "host:ports cid=N,N". What no entry permits is refused, and the order of the
// entries does not matter. The host is one of
//
//	kms.eu-west-1.amazonaws.com   exactly this name
//	*.example.com                 names with one or more labels before
//	                              .example.com; not example.com itself
//	10.0.3.17  [2600:1f18::1]     exactly this address
//	10.0.3.0/24  [2600:1f18::/32] the addresses of this network
//
// and the ports are one from 1 to 65535, or a range such as 8000-8100.
//
// With cid, the entry is only for connections from enclaves with one of these
// context IDs, as the kernel gives them on a vsock listener; it is never for
// connections that arrive over Unix sockets (hybrid vsock among them) or TCP.
// Start an enclave with a context ID of its own (nitro-cli run-enclave
// --enclave-cid): a number that nitro-cli chose may be another enclave's later.
//
// Names are compared without regard to case and to one trailing dot. A pattern
// is refused if it covers a whole top-level domain or, by the ICANN part of the
// Public Suffix List, another domain under which anybody can register a name, such
// as *.co.uk. The list's private part does not count, so a pattern is as wide as it
// looks: anybody can have a bucket under *.s3.amazonaws.com. Whoever may use a
// pattern also makes the proxy ask the DNS for names below it, as many as they like.
// Entries of addresses and networks permit targets that are written as addresses,
// and not names that lead there.
//
// Every name is absolute, with the dot or without: a [Proxy] never completes it
// by the search list of resolv.conf(5). A name of one label, such as "kms", is thus
// a top-level domain, and resolvers do not find it in /etc/hosts, not even
// "localhost": list the full name or the address.
//
// A name on the list does not cover the loopback, link-local, private and other
// special addresses it may resolve to (see the package documentation): to reach
// one, list the address itself too, or its network. A network opens special
// addresses only if it lies inside their block: 10.0.0.0/16 does, and 0.0.0.0/0 is
// the public internet and nothing else. The metadata and credential services of
// EC2, ECS and EKS (169.254.169.254, 169.254.170.2, 169.254.170.23,
// fd00:ec2::254, fd00:ec2::23) are opened by no network, only by their address.
//
// A malformed entry, no entry at all, or more than [MaxAllowlistEntries] is an
// *Error with [ReasonInvalidAllowlist].
func ParseAllowlist(entries ...string) (Allowlist, error) {
	if err := checkEntryCount(len(entries)); err != nil {
		return Allowlist{}, err
	}
	a := Allowlist{entries: make([]rule, len(entries))}
	for i, entry := range entries {
		var err error
		if a.entries[i], err = parseRule(entry); err != nil {
			return Allowlist{}, &Error{Op: "ParseAllowlist", Reason: ReasonInvalidAllowlist, Field: fmt.Sprintf("entry %d of the allowlist", i+1), Detail: err.Error()}
		}
	}
	return a, nil
}

func checkEntryCount(n int) error {
	switch {
	case n == 0:
		return &Error{Op: "ParseAllowlist", Reason: ReasonInvalidAllowlist, Detail: "the allowlist is empty; name at least one host:port, such as kms.eu-west-1.amazonaws.com:443"}
	case n > MaxAllowlistEntries:
		return &Error{Op: "ParseAllowlist", Reason: ReasonInvalidAllowlist, Detail: fmt.Sprintf("the allowlist has %d entries; the limit is %d", n, MaxAllowlistEntries)}
	}
	return nil
}

// source is who asks for a target. The zero source is somebody without a context
// ID, for whom entries with cid are not.
type source struct {
	cid   uint32
	known bool
}

func sourceOf(conn net.Conn) source {
	if addr, ok := conn.RemoteAddr().(*vsock.Addr); ok && addr != nil {
		return source{cid: addr.ContextID, known: true}
	}
	return source{}
}

func (s source) String() string {
	if !s.known {
		return "peers without a context ID"
	}
	return fmt.Sprintf("context ID %d", s.cid)
}

// lists reports whether t is permitted to anybody.
func (a Allowlist) lists(t target) bool {
	return slices.ContainsFunc(a.entries, func(r rule) bool { return r.covers(t) })
}

// allows reports whether t is permitted to who asks.
func (a Allowlist) allows(t target, from source) bool {
	return slices.ContainsFunc(a.entries, func(r rule) bool { return r.covers(t) && r.admits(from) })
}

// check says why t is not permitted to who asks, or nil.
func (a Allowlist) check(t target, from source) error {
	if a.allows(t, from) {
		return nil
	}
	if a.lists(t) {
		return fmt.Errorf("the target %v is on the allowlist, but not for %v; add the context ID to an entry, or correct it", t, from)
	}
	return fmt.Errorf("the target %v is not on the allowlist; list it, or correct it", t)
}

// checkAddress says why a name may not lead to addr, or nil.
func (a Allowlist) checkAddress(addr netip.Addr, port uint16, from source) error {
	_, class := specialBlock(addr)
	if class == "" || a.allows(target{addr: addr.Unmap(), port: port}, from) {
		return nil
	}
	return fmt.Errorf("%v is %s; if it is meant, list %v itself", addr, class, netip.AddrPortFrom(addr, port))
}

// parseTarget reads "host:port".
func parseTarget(s string) (target, error) {
	host, portText, err := splitTarget(s)
	if err != nil {
		return target{}, err
	}
	port, err := parsePort(portText)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", s, err)
	}
	name, addr, err := parseHost(host)
	if err != nil {
		return target{}, fmt.Errorf("%q: %w", s, err)
	}
	return target{name: name, addr: addr, port: port}, nil
}

// splitTarget splits a target or an entry at the colon before its ports.
func splitTarget(s string) (host, ports string, err error) {
	if s == "" {
		return "", "", fmt.Errorf("the target is empty; write host:port")
	}
	if len(s) > MaxEndpointLength {
		return "", "", fmt.Errorf("the target is %d bytes long; the limit is %d", len(s), MaxEndpointLength)
	}
	if host, ports, err = net.SplitHostPort(s); err != nil {
		return "", "", fmt.Errorf("%q is not host:port (the port is required; an IPv6 address goes in brackets)", s)
	}
	return host, ports, nil
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
	// Before case is folded: outside ASCII there are letters that fold into it, such
	// as the Kelvin sign into k, and the name would be another than the one written.
	if !isPrintableASCII(host) {
		return "", addr, fmt.Errorf("the name %+q has bytes that are not printable ASCII; write international names in their xn-- form", host)
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
			return fmt.Errorf("* is only for allowlists, and there only for the first labels, as in *.example.com")
		default:
			return fmt.Errorf("label %q has the byte %q; write international names in their xn-- form", label, c)
		}
	}
	return nil
}
