package vsockproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

func rawDial(t *testing.T, e Endpoint) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", e.where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestHybridWire(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 8000)
	l := mustListen(t, e)
	for _, want := range []string{"OK 1073741824\n", "OK 1073741825\n"} {
		conn := rawDial(t, e)
		// The stream's first bytes may come together with the line.
		conntest.Write(t, conn, "CONNECT 8000\nfirst")
		conntest.WantRead(t, conn, want)
		accepted := conntest.Accept(t, l)
		conntest.WantRead(t, accepted, "first")
		conntest.Write(t, accepted, "second")
		conntest.WantRead(t, conn, "second")
	}
}

func TestHybridListenerRefuses(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 8000)
	l := mustListen(t, e)
	for _, line := range []string{
		"CONNECT 8001\n",
		"CONNECT 80000\n",
		"CONNECT 08000\n",
		"CONNECT +8000\n",
		"CONNECT  8000\n",
		"CONNECT 8000 \n",
		"CONNECT 8000\r\n",
		"connect 8000\n",
		"CONNECT\n",
		"\n",
		"GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x01", 30),
		strings.Repeat("C", 32+1),
	} {
		conn := rawDial(t, e)
		_, _ = io.WriteString(conn, line)
		if answer, _ := io.ReadAll(conn); len(answer) != 0 {
			t.Errorf("%q was answered with %q", line, answer)
		}
	}
	rawDial(t, e).Close() // a client that says nothing and goes

	d := Dialer{Endpoint: HybridVsock(e.where, 8001)}
	_, err := d.DialContext(t.Context(), "", "")
	wantReason(t, err, ReasonRefused)

	// None of that reached Accept.
	d.Endpoint = e
	conn, err := d.DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conntest.Write(t, conn, "right")
	conntest.WantRead(t, conntest.Accept(t, l), "right")
}

func TestHybridSlowClientDelaysNobody(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 8000)
	l := mustListen(t, e)
	slow := rawDial(t, e)
	conntest.Write(t, slow, "CONN")
	for range 3 {
		conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
		_ = conntest.Accept(t, l).Close()
	}
	conntest.Write(t, slow, "ECT 8000\n")
	conntest.WantRead(t, slow, "OK ")
	_ = conntest.Accept(t, l)
}

func TestHybridHandshakeDeadline(t *testing.T) {
	path := conntest.SocketPath(t)
	l, err := listenHybrid(t.Context(), path, 8000, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn := rawDial(t, HybridVsock(path, 8000))
	conntest.Write(t, conn, "CONNECT 80")
	if answer, _ := io.ReadAll(conn); len(answer) != 0 {
		t.Errorf("a slow client was answered with %q", answer)
	}
}

// Close ends a blocked Accept, handshakes in progress and connections that
// nobody accepted.
func TestHybridClose(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 8000)
	l := mustListen(t, e)
	half := rawDial(t, e)
	conntest.Write(t, half, "CONN")
	whole := rawDial(t, e)
	conntest.Write(t, whole, "CONNECT 8000\n")
	conntest.WantRead(t, whole, "OK ")
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	conntest.WantCut(t, half)
	conntest.WantCut(t, whole)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v, want %v", err, net.ErrClosed)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestHybridDialAnswers(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		reason       Reason // empty: the dial succeeds
	}{
		{"good", "OK 1073741824\n", ""},
		{"stream in the same packet", "OK 1\nworld", ""},
		{"closed", "", ReasonRefused},
		{"closed in the middle", "OK 10", ReasonInvalidHandshake},
		{"no port", "OK\n", ReasonInvalidHandshake},
		{"not a port", "OK x\n", ReasonInvalidHandshake},
		{"port too large", "OK 4294967296\n", ReasonInvalidHandshake},
		{"error text", "ERR no such port\n", ReasonInvalidHandshake},
		{"other protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", ReasonInvalidHandshake},
		{"never a newline", strings.Repeat("x", 1000), ReasonInvalidHandshake},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := HybridVsock(conntest.SocketPath(t), 52)
			l := mustListen(t, Unix(e.where))
			served := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					served <- err
					return
				}
				request := make([]byte, len("CONNECT 52\n"))
				_, err = io.ReadFull(conn, request)
				if err == nil && string(request) != "CONNECT 52\n" {
					err = errors.New("request " + string(request))
				}
				_, _ = io.WriteString(conn, test.answer)
				_ = conn.Close()
				served <- err
			}()
			conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
			if err := <-served; err != nil {
				t.Fatal(err)
			}
			if test.reason != "" {
				wantReason(t, err, test.reason)
				if conn != nil {
					t.Error("a connection beside an error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, want, _ := strings.Cut(test.answer, "\n")
			if rest, err := io.ReadAll(conn); string(rest) != want || err != nil {
				t.Errorf("stream %q, %v; want %q", rest, err, want)
			}
		})
	}
}

// A socket on which something listens that never answers.
func TestHybridDialEndsWithTimeout(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 52)
	mustListen(t, Unix(e.where))
	_, err := (&Dialer{Endpoint: e, Timeout: time.Millisecond}).DialContext(t.Context(), "", "")
	if timeout := wantReason(t, err, ReasonTimeout); !timeout.Timeout() {
		t.Error("Timeout() is false")
	}
}

func TestHybridDialEndsWithContext(t *testing.T) {
	e := HybridVsock(conntest.SocketPath(t), 52)
	l := mustListen(t, Unix(e.where))
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error, 1)
	go func() {
		defer cancel()
		conn, err := l.Accept()
		if err == nil {
			defer func() { _ = conn.Close() }()
			_, err = preface.ReadLine(conn)
			cancel()
			_, _ = io.Copy(io.Discard, conn) // until the dialer has closed
		}
		asked <- err
	}()
	_, err := (&Dialer{Endpoint: e}).DialContext(ctx, "", "")
	wantReason(t, err, ReasonCanceled)
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// FuzzHybridHandshake feeds a client's bytes to a listener.
func FuzzHybridHandshake(f *testing.F) {
	f.Add([]byte("CONNECT 8000\n"))
	f.Add([]byte("CONNECT 8000\nstream"))
	f.Add([]byte("CONNECT 8001\n"))
	f.Add([]byte("CONNECT 8000"))
	f.Add([]byte(strings.Repeat("x", 64)))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := strings.NewReader(string(in))
		line, err := preface.ReadLine(r)
		read := len(in) - r.Len()
		if read > 32 {
			t.Fatalf("read %d bytes", read)
		}
		if err == nil && string(in[:read]) != line+"\n" {
			t.Fatalf("read %q as line %q", in[:read], line)
		}
		if err == nil && strings.Contains(line, "\n") {
			t.Fatalf("line %q has a newline", line)
		}
	})
}
