package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// parent is the embedded parent instance: a proxy on a hybrid vsock that keeps every byte
// for inspection.
type parent struct {
	endpoint vsockproxy.Endpoint
	tap      *wiretap
	stop     func() error // safe to call twice
}

func startParent(ctx context.Context, target string) (*parent, error) {
	dir, err := os.MkdirTemp("", "keyrelease")
	if err != nil {
		return nil, err
	}
	p, err := startProxy(ctx, vsockproxy.HybridVsock(filepath.Join(dir, "v.sock"), 8000), target)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	stopProxy := p.stop
	p.stop = sync.OnceValue(func() error {
		defer os.RemoveAll(dir)
		return stopProxy()
	})
	return p, nil
}

func startProxy(ctx context.Context, endpoint vsockproxy.Endpoint, target string) (*parent, error) {
	allow, err := vsockproxy.ParseAllowlist(target)
	if err != nil {
		return nil, err
	}
	listener, err := vsockproxy.Listen(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	p := &parent{endpoint: endpoint, tap: &wiretap{Listener: listener}}
	// The SDK keeps its connection for a next call. There is none, so do not wait for
	// the connection to end.
	proxy := &vsockproxy.Proxy{Route: vsockproxy.To(target), Allow: allow, DrainTimeout: time.Millisecond}
	ctx, cancel := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(ctx, p.tap) }()
	p.stop = func() error {
		cancel()
		return <-served
	}
	return p, nil
}

// wiretap keeps the bytes that cross the connections it accepts.
type wiretap struct {
	net.Listener
	mu    sync.Mutex
	conns []*tappedConn
}

func (w *wiretap) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tapped := &tappedConn{Conn: conn}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, tapped)
	return tapped, nil
}

// maxTapped bounds the bytes kept of each direction of a connection.
const maxTapped = 1 << 20

type tappedConn struct {
	net.Conn
	mu                     sync.Mutex
	fromEnclave, toEnclave []byte
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.keep(&c.fromEnclave, b[:n])
	return n, err
}

func (c *tappedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.keep(&c.toEnclave, b[:n])
	return n, err
}

// CloseWrite lets the proxy carry a half-close through the tap.
func (c *tappedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

func (c *tappedConn) keep(stream *[]byte, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*stream = append(*stream, b[:min(len(b), maxTapped-len(*stream))]...)
}

// streams returns the bytes kept. Call it after the proxy has stopped.
func (w *wiretap) streams() (fromEnclave, toEnclave [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		fromEnclave = append(fromEnclave, c.fromEnclave)
		toEnclave = append(toEnclave, c.toEnclave)
	}
	return fromEnclave, toEnclave
}
