package vsockproxy

import (
	"net"
	"testing"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// OnEnd hears once of each connection what the log says.
func TestOnEnd(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		ends := make(chan ConnEnd, 16)
		target := origin(t, echo)
		p := &Proxy{Route: Connect(), Allow: mustAllow(t, target), OnEnd: func(e ConnEnd) { ends <- e; panic("contained") }}
		r := start(t, tr, p)
		r.Dialer.Connect = true

		conn, err := r.DialContext(t.Context(), "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		conntest.Write(t, conn, "hello")
		conntest.WantRead(t, conn, "hello")
		_ = conn.(conntest.Duplex).CloseWrite()
		conntest.WantCut(t, conn)
		_ = conn.Close()
		e := <-ends
		line := r.log.wantEnd(t, "closed")
		if e.End != "closed" || e.Err != nil || e.Target != target || e.FromEnclave != 5 || e.ToEnclave != 5 ||
			e.Peer == nil || e.Duration <= 0 || (e.CID != 0) != (tr.name == "vsock") {
			t.Errorf("%+v", e)
		}
		if _, has := line["cid"]; has != (tr.name == "vsock") {
			t.Errorf("log line: %v", line)
		}

		_, err = r.DialContext(t.Context(), "tcp", "other.example:443")
		wantReason(t, err, ReasonNotAllowed)
		e = <-ends
		wantReason(t, e.Err, ReasonNotAllowed)
		if e.End != string(ReasonNotAllowed) || e.Target != "other.example:443" || e.FromEnclave != 0 {
			t.Errorf("%+v", e)
		}
		if err := r.stop(); err != nil || len(ends) != 0 {
			t.Errorf("%v; %d more calls", err, len(ends))
		}
	})
}

// cidConn comes from a context ID, on machines without vsock, too.
type cidConn struct{ conntest.Wrapped }

func (cidConn) RemoteAddr() net.Addr { return &vsock.Addr{ContextID: 16, Port: 1} }

// noAddrConn panics when it is asked who it is.
type noAddrConn struct{ conntest.Wrapped }

func (noAddrConn) RemoteAddr() net.Addr { panic("no address") }

func TestOnEndPeers(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"16":   func(c net.Conn) net.Conn { return cidConn{conntest.Wrapped{Duplex: c.(conntest.Duplex)}} },
		"none": func(c net.Conn) net.Conn { return noAddrConn{conntest.Wrapped{Duplex: c.(conntest.Duplex)}} },
	} {
		t.Run(name, func(t *testing.T) {
			ends := make(chan ConnEnd, 16)
			l := mustListen(t, TCP("127.0.0.1:0"))
			r := startOn(t, wrapListener{l, wrap}, TCP(l.Addr().String()), &Proxy{Route: To(origin(t, echo)), OnEnd: func(e ConnEnd) { ends <- e }})
			conn := r.dial(t)
			_ = conn.CloseWrite()
			conntest.WantCut(t, conn)
			e := <-ends
			if name == "16" {
				if line := r.log.wantEnd(t, "closed"); e.CID != 16 || line["cid"] != 16.0 {
					t.Errorf("%+v, %v", e, line)
				}
			} else if e.CID != 0 || e.Peer != nil || e.End != endPanic {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	allow := mustAllow(t, "a.example:443")
	if err := (&Proxy{Route: To("a.example:443"), Allow: allow}).Check(); err != nil {
		t.Error(err)
	}
	wantReason(t, (&Proxy{Route: To("b.example:443"), Allow: allow}).Check(), ReasonNotAllowed)
	wantReason(t, (&Proxy{Route: To("a.example:443")}).Check(), ReasonInvalidOptions)
}
