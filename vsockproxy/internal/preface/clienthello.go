package preface

import (
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// TLS on the wire (RFC 8446, sections 4, 5.1 and B.3; RFC 6066, section 3).
const (
	recordHeaderLength  = 5
	maxRecordLength     = 1 << 14
	recordHandshake     = 22
	messageHeaderLength = 4
	messageClientHello  = 1
	extensionServerName = 0
	// extensionECH marks an encrypted ClientHello, whose visible server name is
	// that of somebody else (RFC 9849, section 5).
	extensionECH = 0xfe0d
	nameTypeHost = 0
)

// ReadClientHello reads a ClientHello and no byte beyond the record that it ends
// in. It returns every byte that it has read and the server's name, in lower
// case. The message may be spread over any number of records.
//
// Errors about what the client sent are [*Error]. Others are r's.
func ReadClientHello(r io.Reader) (wire []byte, name string, err error) {
	var message []byte
	for {
		fragment, err := readRecord(r, &wire)
		if err != nil {
			return nil, "", err
		}
		message = append(message, fragment...)
		if message[0] != messageClientHello {
			return nil, "", refuse(ClientHello, "the first handshake message has type %d, not ClientHello (1)", message[0])
		}
		if len(message) < messageHeaderLength {
			continue
		}
		length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
		if length > MaxClientHello {
			return nil, "", refuse(ClientHello, "the ClientHello announces %d bytes; the limit is %d", length, MaxClientHello)
		}
		if body := message[messageHeaderLength:]; len(body) >= length {
			name, err = serverName(body[:length])
			if err != nil {
				return nil, "", err
			}
			return wire, name, nil
		}
	}
}

// readRecord reads one handshake record, appends it to wire and returns what is
// in it, at least one byte.
func readRecord(r io.Reader, wire *[]byte) ([]byte, error) {
	header, err := readMore(r, wire, recordHeaderLength)
	if err != nil {
		return nil, err
	}
	kind, major, length := header[0], header[1], int(header[3])<<8|int(header[4])
	switch {
	case string(header) == "CONNE":
		return nil, refuse(ClientHello, "the client sent an HTTP CONNECT; on a server name route the client speaks TLS at once (leave Dialer.Connect unset)")
	case kind != recordHandshake || major != 3:
		return nil, refuse(ClientHello, "the client does not speak TLS: a record begins with % x", header[:3])
	case length == 0 || length > maxRecordLength:
		return nil, refuse(ClientHello, "a TLS record of %d bytes; the limits are 1 and %d", length, maxRecordLength)
	}
	return readMore(r, wire, length)
}

// readMore reads exactly n bytes to the end of wire and returns them.
func readMore(r io.Reader, wire *[]byte, n int) ([]byte, error) {
	had := len(*wire)
	if had+n > MaxClientHello {
		return nil, refuse(ClientHello, "the ClientHello takes more than %d bytes", MaxClientHello)
	}
	*wire = slices.Grow(*wire, n)[:had+n]
	_, err := io.ReadFull(r, (*wire)[had:])
	switch {
	case errors.Is(err, io.EOF) && had == 0:
		return nil, refuse(ClientHello, "the client left without a word")
	case endsEarly(err):
		return nil, refuse(ClientHello, "the client left in the middle of its ClientHello")
	}
	return (*wire)[had:], err
}

// fields reads what TLS packs into messages. After a read beyond the end,
// everything it returns is empty and short is true.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if f.short || n > len(f.rest) {
		f.rest, f.short = nil, true
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) number(size int) (n int) {
	for _, b := range f.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

// vector reads what a number of the given size counts the bytes of.
func (f *fields) vector(size int) []byte { return f.take(f.number(size)) }

// serverName finds the name in the body of a ClientHello.
func serverName(body []byte) (string, error) {
	hello := fields{rest: body}
	hello.take(2)   // legacy_version
	hello.take(32)  // random
	hello.vector(1) // legacy_session_id
	hello.vector(2) // cipher_suites
	hello.vector(1) // legacy_compression_methods
	if !hello.short && len(hello.rest) == 0 {
		return "", noServerName() // a client older than extensions
	}
	extensions := fields{rest: hello.vector(2)}
	if hello.short || len(hello.rest) > 0 {
		return "", refuse(ClientHello, "the fields of the ClientHello do not fill it exactly")
	}
	var list []byte
	var found, encrypted bool
	for len(extensions.rest) > 0 {
		kind, data := extensions.number(2), extensions.vector(2)
		if extensions.short {
			return "", refuse(ClientHello, "an extension of the ClientHello is cut off")
		}
		switch kind {
		case extensionServerName:
			if found {
				return "", refuse(ClientHello, "the ClientHello has two server_name extensions")
			}
			list, found = data, true
		case extensionECH:
			encrypted = true
		}
	}
	switch {
	case encrypted:
		return "", refuse(EncryptedHello, "the ClientHello is encrypted, and the name that can be seen is not the server's; switch ECH off in the client, or use a Connect route")
	case !found:
		return "", noServerName()
	}
	return nameInList(list)
}

func noServerName() error {
	return refuse(NoServerName, "the ClientHello has no server_name; set the server's name in the client (clients leave it out for IP addresses), or use another route")
}

// nameInList reads the data of a server_name extension.
func nameInList(data []byte) (string, error) {
	extension := fields{rest: data}
	list := fields{rest: extension.vector(2)}
	kind, name := list.number(1), list.vector(2)
	switch {
	case extension.short || len(extension.rest) > 0 || list.short || len(list.rest) > 0:
		return "", refuse(ServerName, "the server_name extension does not hold exactly one name")
	case kind != nameTypeHost:
		return "", refuse(ServerName, "the server_name has type %d, not host_name (0)", kind)
	case len(name) > rules.MaxHostLength:
		return "", refuse(ServerName, "the server name is %d bytes long; the limit is %d", len(name), rules.MaxHostLength)
	}
	return checkServerName(string(name))
}

// checkServerName returns name in normal form. RFC 6066, section 3: no addresses,
// no final dot, ASCII.
func checkServerName(name string) (string, error) {
	// Before case is folded: outside ASCII there are letters that fold into it.
	if !rules.IsPrintableASCII(name) {
		return "", refuse(ServerName, "the server name %+q has bytes that are not printable ASCII", name)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", refuse(ServerName, "the server name %q is an IP address; a ClientHello names hosts only", name)
	}
	if strings.HasSuffix(name, ".") {
		return "", refuse(ServerName, "the server name %q ends with a dot", name)
	}
	normal, _, err := rules.ParseHost(name)
	if err != nil {
		return "", refuse(ServerName, "the server name %q: %v", name, err)
	}
	return normal, nil
}
