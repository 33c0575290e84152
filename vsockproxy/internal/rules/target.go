package rules

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// MaxHostLength is the longest host name in bytes (RFC 1035, section 2.3.4: 255
// octets on the wire, which is 253 characters of text), and maxLabelLength the
// longest label.
const (
	// maxText bounds a target or an entry, in bytes.
	maxText = 1024

	MaxHostLength  = 253
	maxLabelLength = 63
)

// Target is a host and a port in normal form, so that equal targets are ==.
type Target struct {
	Name string     // lower case, no trailing dot; empty for an address
	Addr netip.Addr // valid for an address; never IPv4-mapped
	Port uint16
}

func (t Target) String() string {
	host := t.Name
	if t.Addr.IsValid() {
		host = t.Addr.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(t.Port)))
}

// ParseTarget reads "host:port".
func ParseTarget(s string) (Target, error) {
	host, portText, err := splitTarget(s)
	if err != nil {
		return Target{}, err
	}
	port, err := parsePort(portText)
	if err != nil {
		return Target{}, fmt.Errorf("%q: %w", s, err)
	}
	name, addr, err := ParseHost(host)
	if err != nil {
		return Target{}, fmt.Errorf("%q: %w", s, err)
	}
	return Target{Name: name, Addr: addr, Port: port}, nil
}

// splitTarget splits a target or an entry at the colon before its ports.
func splitTarget(s string) (host, ports string, err error) {
	if s == "" {
		return "", "", fmt.Errorf("the target is empty; write host:port")
	}
	if len(s) > maxText {
		return "", "", fmt.Errorf("the target is %d bytes long; the limit is %d", len(s), maxText)
	}
	if host, ports, err = net.SplitHostPort(s); err != nil {
		return "", "", fmt.Errorf("%q is not host:port (the port is required; an IPv6 address goes in brackets)", s)
	}
	return host, ports, nil
}

// ParseHost reads a DNS name or an IP address into normal form.
func ParseHost(host string) (name string, addr netip.Addr, err error) {
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
	if !IsPrintableASCII(host) {
		return "", addr, fmt.Errorf("the name %+q has bytes that are not printable ASCII; write international names in their xn-- form", host)
	}
	name = strings.ToLower(strings.TrimSuffix(host, "."))
	if len(name) > MaxHostLength {
		return "", addr, fmt.Errorf("the name is %d bytes long; the limit is %d", len(name), MaxHostLength)
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

// IsPrintableASCII reports whether s has no other bytes.
func IsPrintableASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}
