package vsockproxy

import (
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// Peers that vanish without a word are found by TCP's keepalive, on both sides of
// a proxy.
func TestKeepAlive(t *testing.T) {
	target := origin(t, echo)
	w := toTargetOf(t, &Proxy{Route: To(target), Allow: mustAllow(t, target)})
	out, _, err := w.targets.dial(t.Context(), w.target, rules.Source{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	l := mustListen(t, TCP("127.0.0.1:0"))
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, conn := range map[string]net.Conn{"target": out, "client": conntest.Accept(t, l)} {
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		err = raw.Control(func(fd uintptr) {
			if on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); on != 1 || err != nil {
				t.Errorf("%s: SO_KEEPALIVE is %d, %v", name, on, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
