package vsockproxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

// proxyBytes builds a header from its parts, also one that makes no sense.
func proxyBytes(command, kind byte, rest string) string {
	head := append([]byte(preface.ProxySignature), command, kind)
	return string(binary.BigEndian.AppendUint16(head, uint16(len(rest)))) + rest
}

const (
	v4Addresses = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x02" + "\x04\xd2" + "\x01\xbb"
	v6Addresses = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\x04\xd2" + "\x01\xbb"
	noopTLV = "\x04\x00\x03abc" // PP2_TYPE_NOOP, 3 bytes
)

// acceptProxied returns both ends of a connection over tr.
func acceptProxied(t *testing.T, tr transport, timeout time.Duration) (peer conntest.Duplex, accepted net.Conn) {
	t.Helper()
	l, e := tr.listen(t)
	conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(conntest.Duplex), conntest.Accept(t, &proxyV2Listener{Listener: l, timeout: timeout})
}

func TestProxyV2Listener(t *testing.T) {
	mapped := "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + v6Addresses[16:]
	eachTransport(t, func(t *testing.T, tr transport) {
		for _, test := range []struct {
			name, header string
			client       string // empty: the peer's own address
		}{
			{"IPv4", proxyBytes(0x21, 0x11, v4Addresses), "192.0.2.1:1234"},
			{"IPv6", proxyBytes(0x21, 0x21, v6Addresses), "[2001:db8::1]:1234"},
			{"IPv4 in IPv6", proxyBytes(0x21, 0x21, mapped), "192.0.2.1:1234"},
			{"extensions", proxyBytes(0x21, 0x11, v4Addresses+noopTLV), "192.0.2.1:1234"},
			{"as long as may be", proxyBytes(0x21, 0x11, v4Addresses+strings.Repeat("x", preface.MaxProxyHeader-16-12)), "192.0.2.1:1234"},
			{"unknown", proxyBytes(0x21, 0x00, ""), ""},
			{"unknown with bytes", proxyBytes(0x21, 0x00, "anything"), ""},
			{"datagrams", proxyBytes(0x21, 0x12, v4Addresses), ""},
			{"Unix", proxyBytes(0x21, 0x31, strings.Repeat("x", 216)), ""},
			{"LOCAL", proxyBytes(0x20, 0x00, ""), ""},
			{"LOCAL with addresses", proxyBytes(0x20, 0x11, v4Addresses), ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				peer, conn := acceptProxied(t, tr, time.Minute)
				go func() {
					_, _ = io.WriteString(peer, test.header+"the stream")
					_ = peer.CloseWrite()
				}()
				own := conn.(interface{ NetConn() net.Conn }).NetConn()
				want := test.client
				if want == "" {
					want = own.RemoteAddr().String()
				}
				if got := conn.RemoteAddr(); got.String() != want {
					t.Errorf("RemoteAddr %v, want %v", got, want)
				} else if _, ok := got.(*net.TCPAddr); test.client != "" && !ok {
					t.Errorf("RemoteAddr is a %T", got)
				}
				if got := conn.LocalAddr(); got.String() != own.LocalAddr().String() {
					t.Errorf("LocalAddr %v, want %v", got, own.LocalAddr())
				}
				if all, err := io.ReadAll(conn); string(all) != "the stream" || err != nil {
					t.Errorf("%q, %v", all, err)
				}
				conntest.Write(t, conn, "the answer")
				if err := conn.(conntest.Duplex).CloseWrite(); err != nil {
					t.Error(err)
				}
				if all, err := io.ReadAll(peer); string(all) != "the answer" || err != nil {
					t.Errorf("%q, %v", all, err)
				}
			})
		}
	})
}

func TestProxyV2ListenerRefusals(t *testing.T) {
	good := proxyBytes(0x21, 0x11, v4Addresses)
	for _, test := range []struct {
		name, sent, says string
	}{
		{"TLS", "\x16\x03\x01\x02\x00\x01", "does not begin with a PROXY header"},
		{"HTTP", "GET / HTTP/1.1\r\n", "does not begin with a PROXY header"},
		{"one wrong byte", "x", "does not begin with a PROXY header"},
		{"almost the signature", preface.ProxySignature[:11] + "\r", "does not begin with a PROXY header"},
		{"version 1", "PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n", "version 1"},
		{"version 3", proxyBytes(0x31, 0x11, v4Addresses), "version 3"},
		{"command 2", proxyBytes(0x22, 0x11, v4Addresses), "command 2"},
		{"no addresses", proxyBytes(0x21, 0x11, ""), "has 0 bytes for addresses that take 12"},
		{"half an address", proxyBytes(0x21, 0x11, v4Addresses[:11]), "has 11 bytes"},
		{"IPv4 sold as IPv6", proxyBytes(0x21, 0x21, v4Addresses), "take 36"},
		{"too long", proxyBytes(0x21, 0x11, v4Addresses+strings.Repeat("x", preface.MaxProxyHeader-16-12+1)), "the limit is 4096"},
		{"longest", proxyBytes(0x21, 0x11, strings.Repeat("x", 0xffff)), "65551 bytes long"},
		{"cut in the signature", good[:3], "left in the middle"},
		{"cut in the addresses", good[:20], "left in the middle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			peer, conn := acceptProxied(t, transports[1], time.Minute)
			go func() {
				_, _ = io.WriteString(peer, test.sent)
				_ = peer.CloseWrite()
			}()
			if got, want := conn.RemoteAddr(), conn.(*proxyV2Conn).Conn.RemoteAddr(); got != want {
				t.Errorf("RemoteAddr %v, want the peer's own, %v", got, want)
			}
			for range 2 {
				n, err := conn.Read(make([]byte, 100))
				e := wantReason(t, err, ReasonInvalidProxyHeader)
				if n != 0 || e.Op != "Read" || !strings.Contains(e.Error(), test.says) {
					t.Errorf("%d, %v; does not say %q", n, e, test.says)
				}
			}
			if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v, want %v", err, net.ErrClosed)
			}
		})
	}
}

// A probe of a load balancer, say, is no malformed header.
func TestProxyV2ListenerWithoutAWord(t *testing.T) {
	peer, conn := acceptProxied(t, transports[1], time.Minute)
	_ = peer.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("%d, %v; want EOF", n, err)
	}
}

// Clients that send no header, or half of one, hold up neither Accept nor others,
// and end by the time limit.
func TestProxyV2ListenerSilentClients(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		inner, e := tr.listen(t)
		l := &proxyV2Listener{Listener: inner, timeout: time.Minute}
		dial := func(send string) net.Conn {
			conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			conntest.Write(t, conn, send)
			return conn
		}
		for range 20 {
			dial("")
			conntest.Accept(t, l)
			dial(preface.ProxySignature[:7])
			conntest.Accept(t, l)
		}
		dial(proxyBytes(0x21, 0x11, v4Addresses) + "hello")
		conn := conntest.Accept(t, l)
		conntest.WantRead(t, conn, "hello")

		l.timeout = time.Millisecond
		for _, sent := range []string{"", preface.ProxySignature[:7], proxyBytes(0x21, 0x11, v4Addresses)[:20]} {
			peer := dial(sent)
			conn := conntest.Accept(t, l)
			_, err := conn.Read(make([]byte, 1))
			e := wantReason(t, err, ReasonTimeout)
			if !strings.Contains(e.Detail, "ToEnclaveProxyV2") {
				t.Errorf("%v does not say what is missing", e)
			}
			conntest.WantCut(t, peer)
		}
	})
}

// The user's deadline ends Read, and not the connection: a later Read goes on in the
// middle of the header. After the header it is the one in force.
func TestProxyV2ListenerDeadlines(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		peer, conn := acceptProxied(t, tr, time.Hour)
		header := proxyBytes(0x21, 0x11, v4Addresses+noopTLV)
		expire := func() {
			t.Helper()
			if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%d, %v; want the deadline", n, err)
			}
		}
		expire()
		for i := range len(header) {
			conntest.Write(t, peer, header[i:i+1])
			if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			if i < len(header)-1 {
				if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%d, %v; want the deadline", n, err)
				}
			}
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if got := conn.RemoteAddr().String(); got != "192.0.2.1:1234" {
			t.Errorf("RemoteAddr %s", got)
		}
		expire()
		if err := conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		conntest.Write(t, peer, "stream")
		conntest.WantRead(t, conn, "stream")
	})
}

// A deadline that was set before the header was there holds afterwards; the header's
// own does not.
func TestProxyV2ListenerLimitEndsWithTheHeader(t *testing.T) {
	peer, conn := acceptProxied(t, transports[1], time.Hour)
	c := conn.(*proxyV2Conn)
	conntest.Write(t, peer, proxyBytes(0x21, 0x11, v4Addresses))
	_ = conn.RemoteAddr()
	c.limit = time.Unix(1, 0) // long ago
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	conntest.Write(t, peer, "stream")
	conntest.WantRead(t, conn, "stream")
}

func TestProxyV2ListenerClose(t *testing.T) {
	inner, e := transports[1].listen(t)
	l := NewProxyV2Listener(inner)
	conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted := conntest.Accept(t, l)
	read := make(chan error, 1)
	go func() {
		_, err := accepted.Read(make([]byte, 1))
		read <- err
	}()
	conntest.Write(t, conn, preface.ProxySignature[:1])
	if err := accepted.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read of a closed connection: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

// What the proxy writes is what the listener reads.
func TestProxyV2BothEnds(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		inner, enclave := tr.listen(t)
		clients := make(chan string, 1)
		serveOn(t, NewProxyV2Listener(inner), func(conn conntest.Duplex) {
			clients <- conn.RemoteAddr().String()
			_, _ = io.Copy(conn, conn)
			_ = conn.CloseWrite()
		})
		r := startInbound(t, &Proxy{Route: ToEnclaveProxyV2(enclave)})
		conn := r.plainDial(t)
		if got, want := <-clients, conn.LocalAddr().String(); got != want {
			t.Errorf("the enclave sees %s, want %s", got, want)
		}
		conntest.Write(t, conn, "out and back")
		_ = conn.CloseWrite()
		if all, err := io.ReadAll(conn); string(all) != "out and back" || err != nil {
			t.Errorf("%q, %v", all, err)
		}
		r.log.wantEnd(t, endClosed)
	})
}

// reasonOfError leaves out the text, which depends on how much has come.
func reasonOfError(err error) Reason {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return Reason(err.Error())
}

// readerConn is a connection that only reads.
type readerConn struct {
	net.Conn
	io.Reader
}

func (c readerConn) Read(b []byte) (int, error)      { return c.Reader.Read(b) }
func (readerConn) Close() error                      { return nil }
func (readerConn) SetReadDeadline(_ time.Time) error { return nil }
func (readerConn) RemoteAddr() net.Addr              { return nil }

// Whatever comes, there is no panic, nothing is read beyond a bound or the header's
// end, and how the bytes are cut up makes no difference.
func FuzzProxyV2(f *testing.F) {
	for _, s := range []string{
		"", "x", preface.ProxySignature, "PROXY TCP4", proxyBytes(0x21, 0x11, v4Addresses) + "stream", proxyBytes(0x21, 0x21, v6Addresses+noopTLV),
		proxyBytes(0x20, 0, ""), proxyBytes(0x21, 0x31, "short"), proxyBytes(0x21, 0x11, strings.Repeat("x", 5000)), proxyBytes(0x21, 0x11, v4Addresses)[:27],
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		read := func(r io.Reader) (string, []byte, error) {
			c := &proxyV2Conn{Conn: readerConn{Reader: r}, limit: time.Now().Add(time.Hour)}
			stream, err := io.ReadAll(c)
			if err != nil && len(stream) > 0 {
				t.Fatalf("%q beside %v", stream, err)
			}
			if c.header != nil {
				t.Fatal("the header is kept")
			}
			if a := c.RemoteAddr(); a != nil {
				return a.String(), stream, err
			}
			return "", stream, err
		}
		whole := bytes.NewReader(in)
		client, stream, err := read(whole)
		if consumed := len(in) - whole.Len(); err != nil && consumed > preface.MaxProxyHeader {
			t.Fatalf("read %d bytes", consumed)
		}
		if err == nil && len(in) > 0 {
			header := in[:len(in)-len(stream)]
			if !bytes.HasSuffix(in, stream) || len(header) != preface.ProxyFixed+int(binary.BigEndian.Uint16(header[14:])) {
				t.Fatalf("stream %q of %q", stream, in)
			}
		}
		again, rest, err2 := read(iotest.OneByteReader(bytes.NewReader(in)))
		if again != client || !bytes.Equal(rest, stream) || (err == nil) != (err2 == nil) || err != nil && reasonOfError(err) != reasonOfError(err2) {
			t.Fatalf("whole: %q, %q, %v; byte by byte: %q, %q, %v", client, stream, err, again, rest, err2)
		}
	})
}
