package vsockproxy

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// realHello is what crypto/tls sends first.
func realHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, config).Handshake()
	}()
	record := make([]byte, maxClientHello)
	n, err := server.Read(record) // a net.Pipe keeps writes apart
	_ = server.Close()
	<-done
	_ = client.Close()
	if err != nil {
		t.Fatal(err)
	}
	return record[:n]
}

// cryptoTLSView is what crypto/tls takes for the server's name in the same bytes.
func cryptoTLSView(wire []byte) (name string, ok bool) {
	enough := errors.New("enough")
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = hello.ServerName, true
		return nil, enough
	}}
	_ = tls.Server(bytesConn{bytes.NewReader(wire)}, config).Handshake()
	return name, ok
}

// bytesConn reads from memory and writes nowhere.
type bytesConn struct{ r io.Reader }

func (c bytesConn) Read(b []byte) (int, error)     { return c.r.Read(b) }
func (bytesConn) Write(b []byte) (int, error)      { return len(b), nil }
func (bytesConn) Close() error                     { return nil }
func (bytesConn) LocalAddr() net.Addr              { return nil }
func (bytesConn) RemoteAddr() net.Addr             { return nil }
func (bytesConn) SetDeadline(time.Time) error      { return nil }
func (bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (bytesConn) SetWriteDeadline(time.Time) error { return nil }

// echConfigList makes crypto/tls clients encrypt their ClientHello (RFC 9849,
// section 4).
func echConfigList(t testing.TB) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	contents := []byte{7, 0, 0x20} // config_id, DHKEM(X25519)
	contents = append(contents, vec(2, key.PublicKey().Bytes())...)
	contents = append(contents, vec(2, []byte{0, 1, 0, 1})...) // HKDF-SHA256, AES-128-GCM
	contents = append(contents, 32)                            // maximum_name_length
	contents = append(contents, vec(1, []byte("public.example"))...)
	contents = append(contents, vec(2, nil)...)
	config := append([]byte{0xfe, 0x0d}, vec(2, contents)...)
	return vec(2, config)
}

// vec is data behind its length in size bytes.
func vec(size int, data []byte) []byte {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(data)))
	return append(length[8-size:8:8], data...)
}

func extension(kind uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vec(2, data)...)
}

func sni(name string) []byte {
	return extension(0, vec(2, append([]byte{0}, vec(2, []byte(name))...)))
}

// madeHello is a message of our making: the parts before the extensions, and
// what stands for these.
func madeHello(extensions ...[]byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, vec(1, make([]byte, 32))...)
	body = append(body, vec(2, []byte{0x13, 0x01})...)
	body = append(body, vec(1, []byte{0})...)
	if extensions != nil {
		body = append(body, vec(2, slices.Concat(extensions...))...)
	}
	return append([]byte{1}, vec(3, body)...)
}

// inRecords spreads a message over records of at most size bytes.
func inRecords(message []byte, size int) []byte {
	var wire []byte
	for part := range slices.Chunk(message, size) {
		wire = append(wire, 22, 3, 1)
		wire = append(wire, vec(2, part)...)
	}
	return wire
}

// realHellos are of several sizes and versions.
func realHellos(t testing.TB, name string) map[string][]byte {
	return map[string][]byte{
		"post-quantum": realHello(t, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}}),
		"classic":      realHello(t, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}),
		"TLS 1.2":      realHello(t, &tls.Config{ServerName: name, MaxVersion: tls.VersionTLS12}),
		"ALPN":         realHello(t, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}}),
	}
}

func TestClientHelloName(t *testing.T) {
	const name = "kms.eu-west-1.amazonaws.com"
	for kind, hello := range realHellos(t, name) {
		if kind == "post-quantum" && len(hello) < 1100 {
			t.Errorf("the post-quantum hello has %d bytes, too few for its key share", len(hello))
		}
		message := hello[recordHeaderLength:]
		for cut, wire := range map[string][]byte{
			"as sent":              hello,
			"records of 1 byte":    inRecords(message, 1),
			"records of 3 bytes":   inRecords(message, 3),
			"records of 100":       inRecords(message, 100),
			"the header by itself": append(inRecords(message[:4], 4), inRecords(message[4:], 1<<14)...),
		} {
			t.Run(kind+", "+cut, func(t *testing.T) {
				for _, r := range []io.Reader{bytes.NewReader(wire), iotest.OneByteReader(bytes.NewReader(wire)), iotest.DataErrReader(bytes.NewReader(wire))} {
					read, got, err := readClientHello(r)
					if err != nil || got != name {
						t.Fatalf("name %q, %v; want %q", got, err, name)
					}
					if !bytes.Equal(read, wire) {
						t.Error("the bytes to pass on are not those that came")
					}
				}
				if got, ok := cryptoTLSView(wire); !ok || got != name {
					t.Errorf("crypto/tls sees %q, %v", got, ok)
				}
			})
		}
	}
}

// What comes behind the ClientHello stays in the connection.
func TestClientHelloLeavesTheRest(t *testing.T) {
	r := bytes.NewReader(append(inRecords(madeHello(sni("name.example")), 50), "early data"...))
	if _, _, err := readClientHello(r); err != nil {
		t.Fatal(err)
	}
	conntest.WantRead(t, r, "early data")
}

// clientHelloRefusals are all ways to be refused, with what the error says.
func clientHelloRefusals(t testing.TB) []helloRefusal {
	whole := func(message []byte) []byte { return inRecords(message, 1<<14) }
	named := madeHello(sni("name.example"))
	return []helloRefusal{
		{"nothing", nil, ReasonInvalidClientHello, "without a word"},
		{"half a record header", []byte{22, 3, 1}, ReasonInvalidClientHello, "in the middle"},
		{"half a record", whole(named)[:50], ReasonInvalidClientHello, "in the middle"},
		{"between records", inRecords(named, 50)[:55], ReasonInvalidClientHello, "in the middle"},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ReasonInvalidClientHello, "does not speak TLS"},
		{"CONNECT", []byte("CONNECT a.example:443 HTTP/1.1\r\n\r\n"), ReasonInvalidClientHello, "Dialer.Connect"},
		{"SSLv2 hello", []byte{0x80, 0x2e, 1, 3, 1, 0, 0x15}, ReasonInvalidClientHello, "does not speak TLS"},
		{"alert", []byte{21, 3, 3, 0, 2, 2, 70}, ReasonInvalidClientHello, "does not speak TLS"},
		{"alert between fragments", append(inRecords(named[:9], 9), 21, 3, 3, 0, 2, 2, 70), ReasonInvalidClientHello, "does not speak TLS"},
		{"record version 4", append([]byte{22, 4, 0}, vec(2, named)...), ReasonInvalidClientHello, "does not speak TLS"},
		{"empty record", []byte{22, 3, 1, 0, 0}, ReasonInvalidClientHello, "record of 0 bytes"},
		{"empty record between fragments", append(inRecords(named[:9], 9), 22, 3, 1, 0, 0), ReasonInvalidClientHello, "record of 0 bytes"},
		{"record too long", []byte{22, 3, 1, 0x40, 1}, ReasonInvalidClientHello, "record of 16385 bytes"},
		{"ServerHello", whole(append([]byte{2}, named[1:]...)), ReasonInvalidClientHello, "type 2"},
		{"announces 16 MiB", whole([]byte{1, 0xff, 0xff, 0xff}), ReasonInvalidClientHello, "announces 16777215 bytes"},
		{"one byte too long", whole(append([]byte{1}, vec(3, make([]byte, maxClientHello+1))[:3]...)), ReasonInvalidClientHello, "announces 32769 bytes"},
		{"long on the wire", inRecords(append([]byte{1}, vec(3, make([]byte, maxClientHello-4))...), 1<<14), ReasonInvalidClientHello, "takes more than 32768 bytes"},
		{"long on the wire in bytes", inRecords(append([]byte{1}, vec(3, make([]byte, 8000))...), 1), ReasonInvalidClientHello, "takes more than 32768 bytes"},
		{"empty", whole([]byte{1, 0, 0, 0}), ReasonInvalidClientHello, "do not fill it exactly"},
		{"one byte short", whole(append([]byte{1}, vec(3, named[4:len(named)-1])...)), ReasonInvalidClientHello, "do not fill it exactly"},
		{"one byte more", whole(append([]byte{1}, vec(3, append(named[4:len(named):len(named)], 0))...)), ReasonInvalidClientHello, "do not fill it exactly"},
		{"extension cut off", whole(madeHello([]byte{0, 0, 0, 9, 0})), ReasonInvalidClientHello, "cut off"},
		{"no extensions", whole(madeHello()), ReasonNoServerName, "no server_name"},
		{"no name", realHello(t, &tls.Config{InsecureSkipVerify: true}), ReasonNoServerName, "no server_name"},
		{"crypto/tls and an address", realHello(t, &tls.Config{ServerName: "192.0.2.1"}), ReasonNoServerName, "no server_name"},
		{"two extensions", whole(madeHello(sni("name.example"), sni("name.example"))), ReasonInvalidClientHello, "two server_name"},
		{"two names", whole(madeHello(extension(0, vec(2, append([]byte{0, 0, 1, 'a'}, 0, 0, 1, 'b'))))), ReasonInvalidServerName, "exactly one name"},
		{"no names", whole(madeHello(extension(0, vec(2, nil)))), ReasonInvalidServerName, "exactly one name"},
		{"empty extension", whole(madeHello(extension(0, nil))), ReasonInvalidServerName, "exactly one name"},
		{"bytes after the list", whole(madeHello(extension(0, append(vec(2, []byte{0, 0, 1, 'a'}), 0)))), ReasonInvalidServerName, "exactly one name"},
		{"other type of name", whole(madeHello(extension(0, vec(2, []byte{1, 0, 1, 'a'})))), ReasonInvalidServerName, "type 1"},
		{"empty name", whole(madeHello(sni(""))), ReasonInvalidServerName, "empty"},
		{"IPv4", whole(madeHello(sni("192.0.2.1"))), ReasonInvalidServerName, "IP address"},
		{"IPv6", whole(madeHello(sni("2001:db8::1"))), ReasonInvalidServerName, "IP address"},
		{"mapped IPv4", whole(madeHello(sni("::ffff:192.0.2.1"))), ReasonInvalidServerName, "IP address"},
		{"IPv6 with a zone", whole(madeHello(sni("fe80::1%eth0"))), ReasonInvalidServerName, "IP address"},
		{"IPv6 in brackets", whole(madeHello(sni("[2001:db8::1]"))), ReasonInvalidServerName, "has the byte '['"},
		{"short IPv4", whole(madeHello(sni("127.1"))), ReasonInvalidServerName, "neither a domain"},
		{"hexadecimal IPv4", whole(madeHello(sni("0x7f000001"))), ReasonInvalidServerName, "neither a domain"},
		{"final dot", whole(madeHello(sni("name.example."))), ReasonInvalidServerName, "ends with a dot"},
		{"dot", whole(madeHello(sni("."))), ReasonInvalidServerName, "ends with a dot"},
		{"two dots", whole(madeHello(sni("name..example"))), ReasonInvalidServerName, "empty label"},
		{"port", whole(madeHello(sni("name.example:443"))), ReasonInvalidServerName, "has the byte ':'"},
		{"wildcard", whole(madeHello(sni("*.example"))), ReasonInvalidServerName, "*"},
		{"NUL", whole(madeHello(sni("name.example\x00.com"))), ReasonInvalidServerName, "not printable ASCII"},
		{"line feed", whole(madeHello(sni("name.example\nend=closed"))), ReasonInvalidServerName, "not printable ASCII"},
		{"international", whole(madeHello(sni("bücher.example"))), ReasonInvalidServerName, "not printable ASCII"},
		{"folds to ASCII", whole(madeHello(sni("\u212ams.example"))), ReasonInvalidServerName, "not printable ASCII"},
		{"too long", whole(madeHello(sni(strings.Repeat("a.", 127) + "a"))), ReasonInvalidServerName, "255 bytes long"},
		{"long label", whole(madeHello(sni(strings.Repeat("a", 64) + ".example"))), ReasonInvalidServerName, "64 bytes long"},
		{"ECH", realHello(t, &tls.Config{ServerName: "name.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigList(t)}), ReasonEncryptedHello, "switch ECH off"},
		{"GREASE ECH", whole(madeHello(sni("name.example"), extension(extensionECH, make([]byte, 40)))), ReasonEncryptedHello, "switch ECH off"},
	}
}

type helloRefusal struct {
	name   string
	wire   []byte
	reason Reason
	says   string
}

func TestClientHelloRefusals(t *testing.T) {
	for _, test := range clientHelloRefusals(t) {
		t.Run(test.name, func(t *testing.T) {
			wire, name, err := readClientHello(bytes.NewReader(test.wire))
			e := wantReason(t, err, test.reason)
			if wire != nil || name != "" {
				t.Errorf("a name %q or bytes beside an error", name)
			}
			if e.Op != "Serve" || e.Field != "client" || !strings.Contains(e.Detail, test.says) {
				t.Errorf("%v; does not say %q", err, test.says)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the error %q has control characters", err)
			}
		})
	}
}

// A name is in the log and on the wire in one spelling.
func TestClientHelloNormalName(t *testing.T) {
	_, name, err := readClientHello(bytes.NewReader(inRecords(madeHello(sni("KMS.Example")), 1<<14)))
	if err != nil || name != "kms.example" {
		t.Errorf("%q, %v", name, err)
	}
	longest := strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b"
	if _, name, err = readClientHello(bytes.NewReader(inRecords(madeHello(sni(longest)), 1<<14))); err != nil || name != longest {
		t.Errorf("%q, %v", name, err)
	}
}

// Whatever arrives, a name that is believed is the one that crypto/tls sees in the
// same bytes, and what is read is passed on unchanged and bounded.
func FuzzClientHello(f *testing.F) {
	for _, hello := range realHellos(f, "kms.eu-west-1.amazonaws.com") {
		f.Add(hello)
		f.Add(inRecords(hello[recordHeaderLength:], 100))
	}
	for _, refusal := range clientHelloRefusals(f) {
		if len(refusal.wire) < 4096 {
			f.Add(refusal.wire)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wire, name, err := readClientHello(bytes.NewReader(data))
		if err != nil {
			wantOneLine(t, err)
			if wire != nil || name != "" {
				t.Fatal("something beside an error")
			}
			return
		}
		if len(wire) > maxClientHello || cap(wire) > 2*maxClientHello || !bytes.HasPrefix(data, wire) {
			t.Fatalf("%d bytes to pass on are not what came first, or too many", len(wire))
		}
		if normal, _, err := rules.ParseHost(name); err != nil || normal != name {
			t.Fatalf("name %q: %v", name, err)
		}
		// crypto/tls may refuse what we let pass to the target, which will refuse
		// it then. It must not see another name.
		if other, ok := cryptoTLSView(wire); ok && strings.ToLower(other) != name {
			t.Fatalf("name %q, but crypto/tls sees %q", name, other)
		}
	})
}

// wantOneLine checks what is written about input that may be anything.
func wantOneLine(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%T %v, want *Error", err, err)
	}
	if len(e.Error()) > 2048 || !rules.IsPrintableASCII(e.Error()) {
		t.Fatalf("the error is long or not one printable line: %q", e.Error())
	}
}
