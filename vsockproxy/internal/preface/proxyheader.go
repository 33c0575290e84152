package preface

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

// The PROXY protocol, version 2 (HAProxy, doc/proxy-protocol.txt, section 2.2).
const (
	ProxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyCommand   = 0x21 // version 2, command PROXY
	proxyLocal     = 0x20 // version 2, command LOCAL
	proxyUnknown   = 0x00 // family and transport: neither IPv4 nor IPv6
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

// FormatProxyHeader returns a header that says who is at the other end of a connection, and
// which of our addresses it came to. Without a valid address the peer is sent as
// unknown, and the receiver takes the addresses of the connection that it has.
func FormatProxyHeader(from, to netip.AddrPort) []byte {
	var addresses []byte
	kind := byte(proxyUnknown)
	switch {
	case !from.IsValid() || !to.IsValid():
	case from.Addr().Is4() && to.Addr().Is4():
		kind = proxyTCP4
		addresses = append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
	default:
		kind = proxyTCP6
		f, t := from.Addr().As16(), to.Addr().As16()
		addresses = append(f[:], t[:]...)
	}
	if kind != proxyUnknown {
		addresses = binary.BigEndian.AppendUint16(addresses, from.Port())
		addresses = binary.BigEndian.AppendUint16(addresses, to.Port())
	}
	header := append([]byte(ProxySignature), proxyCommand, kind)
	header = binary.BigEndian.AppendUint16(header, uint16(len(addresses)))
	return append(header, addresses...)
}

// ProxyFixed is the length of the part that every header has.
const ProxyFixed = len(ProxySignature) + 4

// CheckSignature checks as much of it as there is.
func CheckSignature(header []byte) error {
	n := min(len(header), len(ProxySignature))
	if string(header[:n]) == ProxySignature[:n] {
		return nil
	}
	if bytes.HasPrefix(header, []byte("PROXY ")) {
		return refuse(ProxyHeader, "the PROXY header is one of version 1; let the sender write version 2")
	}
	return refuse(ProxyHeader, "the connection does not begin with a PROXY header; does the parent's proxy write one (ToEnclaveProxyV2)?")
}

// HeaderLength returns how long the header is beyond its fixed part.
func HeaderLength(fixed []byte) (int, error) {
	if version := fixed[len(ProxySignature)] >> 4; version != proxyCommand>>4 {
		return 0, refuse(ProxyHeader, "the PROXY header is of version %d; version 2 is the only one with this signature", version)
	}
	length := int(binary.BigEndian.Uint16(fixed[ProxyFixed-2:]))
	if ProxyFixed+length > MaxProxyHeader {
		return 0, refuse(ProxyHeader, "the PROXY header is %d bytes long; the limit is %d", ProxyFixed+length, MaxProxyHeader)
	}
	return length, nil
}

// ParseProxyHeader returns the client that a complete header names, or none if it
// names nobody.
func ParseProxyHeader(header []byte) (client netip.AddrPort, err error) {
	command, kind, rest := header[len(ProxySignature)], header[len(ProxySignature)+1], header[ProxyFixed:]
	switch command {
	case proxyCommand:
	case proxyLocal:
		return netip.AddrPort{}, nil
	default:
		return netip.AddrPort{}, refuse(ProxyHeader, "the PROXY header has command %d, neither LOCAL nor PROXY", command&0xf)
	}
	size := 0 // of an address
	switch kind {
	case proxyTCP4:
		size = 4
	case proxyTCP6:
		size = 16
	default:
		return netip.AddrPort{}, nil
	}
	// Both addresses, then both ports; what follows are extensions.
	if len(rest) < 2*size+4 {
		return netip.AddrPort{}, refuse(ProxyHeader, "the PROXY header has %d bytes for addresses that take %d", len(rest), 2*size+4)
	}
	from, _ := netip.AddrFromSlice(rest[:size])
	port := binary.BigEndian.Uint16(rest[2*size:])
	return netip.AddrPortFrom(from.Unmap(), port), nil
}
