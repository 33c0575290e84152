package vsockproxy

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// The PROXY protocol, version 2 (HAProxy, doc/proxy-protocol.txt, section 2.2).
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyCommand   = 0x21 // version 2, command PROXY
	proxyLocal     = 0x20 // version 2, command LOCAL
	proxyUnknown   = 0x00 // family and transport: neither IPv4 nor IPv6
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
)

// proxyHeader says who is at the other end of client, and which of our addresses
// it came to. A peer without an IP address is sent as unknown, and the receiver
// then takes the addresses of the connection that it has.
func proxyHeader(client net.Conn) []byte {
	from, to := ipAddress(client.RemoteAddr()), ipAddress(client.LocalAddr())
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
	header := append([]byte(proxySignature), proxyCommand, kind)
	header = binary.BigEndian.AppendUint16(header, uint16(len(addresses)))
	return append(header, addresses...)
}

func ipAddress(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	address := tcp.AddrPort()
	return netip.AddrPortFrom(address.Addr().Unmap(), address.Port())
}
