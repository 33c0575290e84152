// Package prefacetest makes ClientHellos, good and bad, for the tests of package preface
// and of package vsockproxy. Only tests import it.
package prefacetest

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

// RealHello is what crypto/tls sends first.
func RealHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, config).Handshake()
	}()
	record := make([]byte, preface.MaxClientHello)
	n, err := server.Read(record) // a net.Pipe keeps writes apart
	_ = server.Close()
	<-done
	_ = client.Close()
	if err != nil {
		t.Fatal(err)
	}
	return record[:n]
}

// ECHConfigList makes crypto/tls clients encrypt their ClientHello (RFC 9849,
// section 4).
func ECHConfigList(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := []byte{7, 0, 0x20} // config_id, DHKEM(X25519)
	contents = append(contents, Vec(2, key.PublicKey().Bytes())...)
	contents = append(contents, Vec(2, []byte{0, 1, 0, 1})...) // HKDF-SHA256, AES-128-GCM
	contents = append(contents, 32)                            // maximum_name_length
	contents = append(contents, Vec(1, []byte("public.example"))...)
	contents = append(contents, Vec(2, nil)...)
	config := append([]byte{0xfe, 0x0d}, Vec(2, contents)...)
	return Vec(2, config)
}

// Vec is data behind its length in size bytes.
func Vec(size int, data []byte) []byte {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(data)))
	return append(length[8-size:8:8], data...)
}

func Extension(kind uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), Vec(2, data)...)
}

func SNI(name string) []byte {
	return Extension(0, Vec(2, append([]byte{0}, Vec(2, []byte(name))...)))
}

// MadeHello is a message of our making: the parts before the extensions, and
// what stands for these.
func MadeHello(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, Vec(1, make([]byte, 32))...)
	body = append(body, Vec(2, []byte{0x13, 0x01})...)
	body = append(body, Vec(1, []byte{0})...)
	if extensions != nil {
		body = append(body, Vec(2, slices.Concat(extensions...))...)
	}
	return append([]byte{1}, Vec(3, body)...)
}

// InRecords spreads a message over records of at most size bytes.
func InRecords(message []byte, size int) []byte {
	var wire []byte
	for part := range slices.Chunk(message, size) {
		wire = append(wire, 22, 3, 1)
		wire = append(wire, Vec(2, part)...)
	}
	return wire
}

// HelloRefusals are all ways to be refused, with what the error says.
func HelloRefusals(t testing.TB) []HelloRefusal {
	whole := func(message []byte) []byte { return InRecords(message, 1<<14) }
	named := MadeHello(SNI("name.example"))
	return []HelloRefusal{
		{"nothing", nil, preface.ClientHello, "without a word"},
		{"half a record header", []byte{22, 3, 1}, preface.ClientHello, "in the middle"},
		{"half a record", whole(named)[:50], preface.ClientHello, "in the middle"},
		{"between records", InRecords(named, 50)[:55], preface.ClientHello, "in the middle"},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), preface.ClientHello, "does not speak TLS"},
		{"CONNECT", []byte("CONNECT a.example:443 HTTP/1.1\r\n\r\n"), preface.ClientHello, "Dialer.Connect"},
		{"SSLv2 hello", []byte{0x80, 0x2e, 1, 3, 1, 0, 0x15}, preface.ClientHello, "does not speak TLS"},
		{"alert", []byte{21, 3, 3, 0, 2, 2, 70}, preface.ClientHello, "does not speak TLS"},
		{"alert between fragments", append(InRecords(named[:9], 9), 21, 3, 3, 0, 2, 2, 70), preface.ClientHello, "does not speak TLS"},
		{"record version 4", append([]byte{22, 4, 0}, Vec(2, named)...), preface.ClientHello, "does not speak TLS"},
		{"empty record", []byte{22, 3, 1, 0, 0}, preface.ClientHello, "record of 0 bytes"},
		{"empty record between fragments", append(InRecords(named[:9], 9), 22, 3, 1, 0, 0), preface.ClientHello, "record of 0 bytes"},
		{"record too long", []byte{22, 3, 1, 0x40, 1}, preface.ClientHello, "record of 16385 bytes"},
		{"ServerHello", whole(append([]byte{2}, named[1:]...)), preface.ClientHello, "type 2"},
		{"announces 16 MiB", whole([]byte{1, 0xff, 0xff, 0xff}), preface.ClientHello, "announces 16777215 bytes"},
		{"one byte too long", whole(append([]byte{1}, Vec(3, make([]byte, preface.MaxClientHello+1))[:3]...)), preface.ClientHello, "announces 32769 bytes"},
		{"long on the wire", InRecords(append([]byte{1}, Vec(3, make([]byte, preface.MaxClientHello-4))...), 1<<14), preface.ClientHello, "takes more than 32768 bytes"},
		{"long on the wire in bytes", InRecords(append([]byte{1}, Vec(3, make([]byte, 8000))...), 1), preface.ClientHello, "takes more than 32768 bytes"},
		{"empty", whole([]byte{1, 0, 0, 0}), preface.ClientHello, "do not fill it exactly"},
		{"one byte short", whole(append([]byte{1}, Vec(3, named[4:len(named)-1])...)), preface.ClientHello, "do not fill it exactly"},
		{"one byte more", whole(append([]byte{1}, Vec(3, append(named[4:len(named):len(named)], 0))...)), preface.ClientHello, "do not fill it exactly"},
		{"extension cut off", whole(MadeHello([]byte{0, 0, 0, 9, 0})), preface.ClientHello, "cut off"},
		{"no extensions", whole(MadeHello()), preface.NoServerName, "no server_name"},
		{"no name", RealHello(t, &tls.Config{InsecureSkipVerify: true}), preface.NoServerName, "no server_name"},
		{"crypto/tls and an address", RealHello(t, &tls.Config{ServerName: "192.0.2.1"}), preface.NoServerName, "no server_name"},
		{"two extensions", whole(MadeHello(SNI("name.example"), SNI("name.example"))), preface.ClientHello, "two server_name"},
		{"two names", whole(MadeHello(Extension(0, Vec(2, append([]byte{0, 0, 1, 'a'}, 0, 0, 1, 'b'))))), preface.ServerName, "exactly one name"},
		{"no names", whole(MadeHello(Extension(0, Vec(2, nil)))), preface.ServerName, "exactly one name"},
		{"empty extension", whole(MadeHello(Extension(0, nil))), preface.ServerName, "exactly one name"},
		{"bytes after the list", whole(MadeHello(Extension(0, append(Vec(2, []byte{0, 0, 1, 'a'}), 0)))), preface.ServerName, "exactly one name"},
		{"other type of name", whole(MadeHello(Extension(0, Vec(2, []byte{1, 0, 1, 'a'})))), preface.ServerName, "type 1"},
		{"empty name", whole(MadeHello(SNI(""))), preface.ServerName, "empty"},
		{"IPv4", whole(MadeHello(SNI("192.0.2.1"))), preface.ServerName, "IP address"},
		{"IPv6", whole(MadeHello(SNI("2001:db8::1"))), preface.ServerName, "IP address"},
		{"mapped IPv4", whole(MadeHello(SNI("::ffff:192.0.2.1"))), preface.ServerName, "IP address"},
		{"IPv6 with a zone", whole(MadeHello(SNI("fe80::1%eth0"))), preface.ServerName, "IP address"},
		{"IPv6 in brackets", whole(MadeHello(SNI("[2001:db8::1]"))), preface.ServerName, "has the byte '['"},
		{"short IPv4", whole(MadeHello(SNI("127.1"))), preface.ServerName, "neither a domain"},
		{"hexadecimal IPv4", whole(MadeHello(SNI("0x7f000001"))), preface.ServerName, "neither a domain"},
		{"final dot", whole(MadeHello(SNI("name.example."))), preface.ServerName, "ends with a dot"},
		{"dot", whole(MadeHello(SNI("."))), preface.ServerName, "ends with a dot"},
		{"two dots", whole(MadeHello(SNI("name..example"))), preface.ServerName, "empty label"},
		{"port", whole(MadeHello(SNI("name.example:443"))), preface.ServerName, "has the byte ':'"},
		{"wildcard", whole(MadeHello(SNI("*.example"))), preface.ServerName, "*"},
		{"NUL", whole(MadeHello(SNI("name.example\x00.com"))), preface.ServerName, "not printable ASCII"},
		{"line feed", whole(MadeHello(SNI("name.example\nend=closed"))), preface.ServerName, "not printable ASCII"},
		{"international", whole(MadeHello(SNI("bücher.example"))), preface.ServerName, "not printable ASCII"},
		{"folds to ASCII", whole(MadeHello(SNI("\u212ams.example"))), preface.ServerName, "not printable ASCII"},
		{"too long", whole(MadeHello(SNI(strings.Repeat("a.", 127) + "a"))), preface.ServerName, "255 bytes long"},
		{"long label", whole(MadeHello(SNI(strings.Repeat("a", 64) + ".example"))), preface.ServerName, "64 bytes long"},
		{"ECH", RealHello(t, &tls.Config{ServerName: "name.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: ECHConfigList(t)}), preface.EncryptedHello, "switch ECH off"},
		{"GREASE ECH", whole(MadeHello(SNI("name.example"), Extension(0xfe0d, make([]byte, 40)))), preface.EncryptedHello, "switch ECH off"},
	}
}

// HelloRefusal is a ClientHello that is refused.
type HelloRefusal struct {
	Name string
	Wire []byte
	Kind preface.Kind
	Says string // what the error says
}
