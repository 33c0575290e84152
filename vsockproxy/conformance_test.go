package vsockproxy

import (
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// conform checks that both ends of a connection that a listener accepts and dial
// makes behave as net.Conn promises.
func conform(t *testing.T, listen func(t *testing.T) (net.Listener, func() (net.Conn, error))) {
	t.Helper()
	nettest.TestConn(t, func() (dialled, accepted net.Conn, stop func(), err error) {
		l, dial := listen(t)
		done := make(chan error, 1)
		go func() {
			var err error
			accepted, err = l.Accept()
			done <- err
		}()
		dialled, err = dial()
		if err != nil {
			_ = l.Close()
		}
		if acceptErr := <-done; err == nil {
			err = acceptErr
		}
		return dialled, accepted, func() {
			_ = l.Close()
			_ = dialled.Close()
			_ = accepted.Close()
		}, err
	})
}

// Connections of both ends behave as net.Conn promises.
func TestConnConformance(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, tr transport) {
		conform(t, func(t *testing.T) (net.Listener, func() (net.Conn, error)) {
			l, e := tr.listen(t)
			return l, func() (net.Conn, error) { return (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "") }
		})
	})
}

// So do those from which a PROXY header was taken.
func TestProxyV2Conformance(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, tr transport) {
		conform(t, func(t *testing.T) (net.Listener, func() (net.Conn, error)) {
			l, e := tr.listen(t)
			return NewProxyV2Listener(l), func() (net.Conn, error) {
				conn, err := (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
				if err == nil {
					_, err = io.WriteString(conn, proxyBytes(0x21, 0x11, v4Addresses))
				}
				return conn, err
			}
		})
	})
}

// So do those for which a proxy was asked by CONNECT, all the way through it.
func TestConnectConformance(t *testing.T) {
	t.Parallel()
	eachTransport(t, func(t *testing.T, tr transport) {
		conform(t, func(t *testing.T) (net.Listener, func() (net.Conn, error)) {
			target := mustListen(t, TCP("127.0.0.1:0"))
			r := startConnect(t, tr, &Proxy{Allow: mustAllow(t, target.Addr().String()), DrainTimeout: time.Nanosecond})
			return target, func() (net.Conn, error) { return r.DialContext(t.Context(), "tcp", target.Addr().String()) }
		})
	})
}
