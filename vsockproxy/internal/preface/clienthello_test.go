package preface_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface/prefacetest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

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

// realHellos are of several sizes and versions.
func realHellos(t testing.TB, name string) map[string][]byte {
	return map[string][]byte{
		"post-quantum": prefacetest.RealHello(t, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}}),
		"classic":      prefacetest.RealHello(t, &tls.Config{ServerName: name, CurvePreferences: []tls.CurveID{tls.X25519}}),
		"TLS 1.2":      prefacetest.RealHello(t, &tls.Config{ServerName: name, MaxVersion: tls.VersionTLS12}),
		"ALPN":         prefacetest.RealHello(t, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}}),
	}
}

func TestClientHelloName(t *testing.T) {
	const name = "kms.eu-west-1.amazonaws.com"
	for kind, hello := range realHellos(t, name) {
		if kind == "post-quantum" && len(hello) < 1100 {
			t.Errorf("the post-quantum hello has %d bytes, too few for its key share", len(hello))
		}
		message := hello[recordHeader:]
		for cut, wire := range map[string][]byte{
			"as sent":              hello,
			"records of 1 byte":    prefacetest.InRecords(message, 1),
			"records of 3 bytes":   prefacetest.InRecords(message, 3),
			"records of 100":       prefacetest.InRecords(message, 100),
			"the header by itself": append(prefacetest.InRecords(message[:4], 4), prefacetest.InRecords(message[4:], 1<<14)...),
		} {
			t.Run(kind+", "+cut, func(t *testing.T) {
				for _, r := range []io.Reader{bytes.NewReader(wire), iotest.OneByteReader(bytes.NewReader(wire)), iotest.DataErrReader(bytes.NewReader(wire))} {
					read, got, err := preface.ReadClientHello(r)
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
	r := bytes.NewReader(append(prefacetest.InRecords(prefacetest.MadeHello(prefacetest.SNI("name.example")), 50), "early data"...))
	if _, _, err := preface.ReadClientHello(r); err != nil {
		t.Fatal(err)
	}
	conntest.WantRead(t, r, "early data")
}

func TestClientHelloRefusals(t *testing.T) {
	for _, test := range prefacetest.HelloRefusals(t) {
		t.Run(test.Name, func(t *testing.T) {
			wire, name, err := preface.ReadClientHello(bytes.NewReader(test.Wire))
			e := wantKind(t, err, test.Kind)
			if wire != nil || name != "" {
				t.Errorf("a name %q or bytes beside an error", name)
			}
			if !strings.Contains(e.Detail, test.Says) {
				t.Errorf("%v; does not say %q", err, test.Says)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the error %q has control characters", err)
			}
		})
	}
}

// A name is in the log and on the wire in one spelling.
func TestClientHelloNormalName(t *testing.T) {
	_, name, err := preface.ReadClientHello(bytes.NewReader(prefacetest.InRecords(prefacetest.MadeHello(prefacetest.SNI("KMS.Example")), 1<<14)))
	if err != nil || name != "kms.example" {
		t.Errorf("%q, %v", name, err)
	}
	longest := strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b"
	if _, name, err = preface.ReadClientHello(bytes.NewReader(prefacetest.InRecords(prefacetest.MadeHello(prefacetest.SNI(longest)), 1<<14))); err != nil || name != longest {
		t.Errorf("%q, %v", name, err)
	}
}

// Whatever arrives, a name that is believed is the one that crypto/tls sees in the
// same bytes, and what is read is passed on unchanged and bounded.
func FuzzClientHello(f *testing.F) {
	for _, hello := range realHellos(f, "kms.eu-west-1.amazonaws.com") {
		f.Add(hello)
		f.Add(prefacetest.InRecords(hello[recordHeader:], 100))
	}
	for _, refusal := range prefacetest.HelloRefusals(f) {
		if len(refusal.Wire) < 4096 {
			f.Add(refusal.Wire)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		wire, name, err := preface.ReadClientHello(bytes.NewReader(data))
		if err != nil {
			wantKind(t, err, 0)
			if wire != nil || name != "" {
				t.Fatal("something beside an error")
			}
			return
		}
		if len(wire) > preface.MaxClientHello || cap(wire) > 2*preface.MaxClientHello || !bytes.HasPrefix(data, wire) {
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

// recordHeader is the length of a record's header, in bytes.
const recordHeader = 5

// wantKind checks that err is about what a peer sent, of that kind if it is not 0, and
// that it is one short line.
func wantKind(t *testing.T, err error, kind preface.Kind) *preface.Error {
	t.Helper()
	var e *preface.Error
	if !errors.As(err, &e) || kind != 0 && e.Kind != kind {
		t.Fatalf("%T %v, want an error of kind %d", err, err, kind)
	}
	if len(e.Error()) > 2048 || !rules.IsPrintableASCII(e.Error()) {
		t.Errorf("%q is long, or more than a line", e.Error())
	}
	return e
}
