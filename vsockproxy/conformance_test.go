package vsockproxy

import (
	"net"
	"testing"

	"golang.org/x/net/nettest"
)

// Connections of both ends behave as net.Conn promises.
func TestConnConformance(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		nettest.TestConn(t, func() (enclave, parent net.Conn, stop func(), err error) {
			l, e := tr.listen(t)
			accepted := make(chan error, 1)
			go func() {
				var err error
				parent, err = l.Accept()
				accepted <- err
			}()
			enclave, err = (&Dialer{Endpoint: e}).DialContext(t.Context(), "", "")
			if err != nil {
				_ = l.Close()
			}
			if acceptErr := <-accepted; err == nil {
				err = acceptErr
			}
			return enclave, parent, func() {
				_ = l.Close()
				_ = enclave.Close()
				_ = parent.Close()
			}, err
		})
	})
}
