package vsockproxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
)

// NewProxyV2Listener is for a listener in the enclave that a Proxy with the route
// [ToEnclaveProxyV2] reaches, or another that writes PROXY headers of version 2
// (HAProxy, doc/proxy-protocol.txt). It takes the header off each connection, and
// the connection's RemoteAddr is the client that the header names, a *net.TCPAddr.
// Put TLS over it, not under it:
//
//	listener, err := vsockproxy.Listen(ctx, vsockproxy.Vsock(vsockproxy.AnyCID, 8443))
//	err = server.ServeTLS(vsockproxy.NewProxyV2Listener(listener), "", "")
//
// That address is the parent's claim. The parent is not trusted and can write any
// address, so use it in logs and never to decide who somebody is or what they may
// do; nor for rate limits that must hold. What is known of the peer itself is under
// NetConn() net.Conn, which the connections have: over vsock, its RemoteAddr has
// the context ID.
//
// Accept does not wait for headers, so that a client that sends none holds up
// nobody else. The header is read by the first call of Read or RemoteAddr, which
// waits for it, 10 seconds at most since Accept; do not call RemoteAddr
// in the goroutine that accepts. If it is malformed, longer than 4 KiB, or
// not there in time, Read fails with an [*Error], [ReasonInvalidProxyHeader] or
// [ReasonTimeout], the connection is closed, and RemoteAddr is the peer's own, as it
// is for a header that names nobody (the command LOCAL, as of health checks, and
// families other than IPv4 and IPv6). Extensions are skipped.
//
// The header is required, because a connection without one might otherwise send its
// own.
func NewProxyV2Listener(l net.Listener) net.Listener {
	return &proxyV2Listener{Listener: l, timeout: defaultHandshakeTimeout}
}

type proxyV2Listener struct {
	net.Listener
	timeout time.Duration // from Accept to the end of the header
}

func (l *proxyV2Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &proxyV2Conn{Conn: conn, timeout: l.timeout, limit: time.Now().Add(l.timeout)}
	_ = c.SetReadDeadline(time.Time{}) // of a connection that fails, Read will say it
	return c, nil
}

// proxyV2Conn is a connection whose header may not have been read yet.
type proxyV2Conn struct {
	net.Conn
	timeout time.Duration
	limit   time.Time // for the header

	reading sync.Mutex // held by who reads the header
	header  []byte     // as much of it as has come
	client  net.Addr   // whom it names, or nil
	err     error      // what is wrong with it

	mu      sync.Mutex // held while the read deadline is set
	settled bool       // written with both held
	until   time.Time  // the read deadline of our user
}

// settle reads the header, unless that has been done, and says what is wrong with
// it. When the user's deadline ends it, another call goes on from there.
func (c *proxyV2Conn) settle() error {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.settled {
		return c.err
	}
	client, err := c.readHeader()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if time.Now().Before(c.limit) {
			return err
		}
		err = &Error{Op: "Read", Reason: ReasonTimeout, Field: "PROXY header", Detail: fmt.Sprintf("the PROXY header has not come within %v; does the parent's proxy write one (ToEnclaveProxyV2)?", c.timeout)}
	}
	err = refusal("Read", "PROXY header", err)
	c.client, c.err, c.header = client, err, nil

	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled = true
	if err != nil {
		_ = c.Conn.Close()
		return err
	}
	_ = c.Conn.SetReadDeadline(c.until)
	return nil
}

// readHeader reads not one byte beyond the header: the rest is the stream's.
func (c *proxyV2Conn) readHeader() (net.Addr, error) {
	if err := c.fill(preface.ProxyFixed); err != nil {
		return nil, err
	}
	length, err := preface.HeaderLength(c.header)
	if err != nil {
		return nil, err
	}
	if err := c.fill(preface.ProxyFixed + length); err != nil {
		return nil, err
	}
	client, err := preface.ParseProxyHeader(c.header)
	if err != nil || !client.IsValid() {
		return nil, err
	}
	return net.TCPAddrFromAddrPort(client), nil
}

// fill reads until there are n bytes of header. The first bytes that cannot be one
// end it: a client of another protocol may wait for an answer.
func (c *proxyV2Conn) fill(n int) error {
	for len(c.header) < n {
		had := len(c.header)
		c.header = slices.Grow(c.header, n-had)
		fresh, err := c.Conn.Read(c.header[had:n])
		c.header = c.header[:had+fresh]
		if err := preface.CheckSignature(c.header); err != nil {
			return err
		}
		switch {
		case len(c.header) == n:
		case errors.Is(err, io.EOF) && len(c.header) == 0:
			return io.EOF // somebody who only looked whether we are there
		case endsEarly(err):
			return &preface.Error{Kind: preface.ProxyHeader, Detail: "the peer left in the middle of the PROXY header"}
		case err != nil:
			return err
		}
	}
	return nil
}

// Read reads what follows the header.
func (c *proxyV2Conn) Read(b []byte) (int, error) {
	if err := c.settle(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

// RemoteAddr is the client that the header names, once it is there.
func (c *proxyV2Conn) RemoteAddr() net.Addr {
	if err := c.settle(); err != nil || c.client == nil {
		return c.Conn.RemoteAddr()
	}
	return c.client
}

// SetDeadline sets the deadlines of reading and writing.
func (c *proxyV2Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of Read. While the header is not there, its own
// limit holds, too.
func (c *proxyV2Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.until = t
	if !c.settled && (t.IsZero() || t.After(c.limit)) {
		t = c.limit
	}
	return c.Conn.SetReadDeadline(t)
}

// CloseWrite ends our direction of the stream and leaves the other open.
func (c *proxyV2Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("CloseWrite of a %T: %w", c.Conn, errors.ErrUnsupported)
}

// NetConn is the connection from the peer itself, as [tls.Conn.NetConn] is.
// Reading from it takes bytes away from c.
func (c *proxyV2Conn) NetConn() net.Conn { return c.Conn }
