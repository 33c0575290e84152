// Package conntest has the connections that the tests of package vsockproxy and of
// those below it use. Only tests import it.
package conntest

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Duplex is a connection whose two directions end one by one.
type Duplex interface {
	net.Conn
	CloseWrite() error
}

// Wrapped is the base of connections that change another one. Embedding a net.Conn
// alone would hide CloseWrite.
type Wrapped struct{ Duplex }

// Pair returns the two ends of one TCP connection.
func Pair(t *testing.T) (a, b Duplex) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ends(t, l)
}

// UnixPair returns the two ends of one connection over a Unix socket.
func UnixPair(t *testing.T) (a, b Duplex) {
	t.Helper()
	l, err := net.Listen("unix", SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	return ends(t, l)
}

func ends(t *testing.T, l net.Listener) (a, b Duplex) {
	t.Helper()
	defer func() { _ = l.Close() }()
	conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(Duplex), Accept(t, l).(Duplex)
}

// Accept accepts a connection, which is closed when the test ends.
func Accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// SocketPath returns a path that is free, and short enough for a socket.
func SocketPath(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("socket paths of this package begin with a slash")
	}
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "v.sock")
}

// Write writes all of s.
func Write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

// WantRead reads as many bytes as want has, which must be those.
func WantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// WantCut waits for the end of conn, in whatever form the transport gives it.
func WantCut(t *testing.T, conn net.Conn) {
	t.Helper()
	_, _ = io.Copy(io.Discard, conn)
}

// NoiseReader is an endless stream that only its seed determines.
func NoiseReader(seed uint64) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return rand.NewChaCha8(key)
}

// Noise returns the first n bytes of it.
func Noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	_, _ = io.ReadFull(NoiseReader(seed), b)
	return b
}
