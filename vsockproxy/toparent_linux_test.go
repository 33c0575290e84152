package vsockproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/loopback"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// freshNetwork is set for the child of the next test.
const freshNetwork = "KEYVOUCH_TEST_FRESH_NETWORK"

// A network namespace of its own begins as an enclave does, with nothing but a
// loopback interface, which is down. The forwarder must work there.
func TestForwarderInFreshNetwork(t *testing.T) {
	if os.Getenv(freshNetwork) != "" {
		inFreshNetwork(t)
		return
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.Command(exe, "-test.run=^TestForwarderInFreshNetwork$", "-test.v")
	cmd.Env = append(os.Environ(), freshNetwork+"=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		// Whoever is not root may be it in a user namespace, if the system permits.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("this system lets the test have no network namespace (run as root, or permit user namespaces): %v", err)
	}
	if err := cmd.Wait(); err != nil || !bytes.Contains(out.Bytes(), []byte("--- PASS: TestForwarderInFreshNetwork")) {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func inFreshNetwork(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp != 0 {
		t.Fatalf("the interface lo is %+v, %v; want one that is down", lo, err)
	}
	if conn, err := net.Dial("tcp", "127.0.0.1:443"); !errors.Is(err, syscall.ENETUNREACH) {
		t.Fatalf("dial 127.0.0.1: %v, %v; want an unreachable network", conn, err)
	}

	// Without the privilege there are words, and nothing has changed.
	unprivileged := make(chan error)
	go func() {
		// Capabilities are a thread's, and this one ends with the goroutine.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&header, &none[0]); err != nil {
			unprivileged <- err
			return
		}
		_, err := ListenLoopback(t.Context(), "127.0.0.1:443")
		unprivileged <- err
	}()
	e := wantReason(t, <-unprivileged, ReasonPermission)
	if e.Op != "ListenLoopback" || !errors.Is(e, syscall.EPERM) {
		t.Errorf("%v, want Op loopback and EPERM", e)
	}

	// Addresses that are refused bring nothing up.
	if _, err := ListenLoopback(t.Context(), "192.0.2.1:443"); err == nil {
		t.Error("listens on another address")
	}
	if lo, err = net.InterfaceByName("lo"); err != nil || lo.Flags&net.FlagUp != 0 {
		t.Errorf("the interface lo is %+v, %v; want one that is down", lo, err)
	}

	eachSocketFile(t, func(t *testing.T, at func(string) Endpoint) {
		parent := at(conntest.SocketPath(t))
		serveOn(t, mustListen(t, parent), func(conn conntest.Duplex) {
			_, _ = io.Copy(conn, conn)
			_ = conn.CloseWrite()
		})
		for _, address := range []string{"127.0.0.1:443", "127.0.0.2:443", "[::1]:443"} {
			t.Run(address, func(t *testing.T) {
				l, err := ListenLoopback(t.Context(), address)
				if err != nil {
					if address[0] == '[' {
						t.Skipf("no IPv6 on this machine: %v", err)
					}
					t.Fatal(err)
				}
				p := &Proxy{Route: ToParent(Dialer{Endpoint: parent, Timeout: time.Minute}, "")}
				p.Allow.list = rules.List{}
				r := startOn(t, l, TCP(address), p)
				conn := r.dial(t)
				conntest.Write(t, conn, "out and back")
				_ = conn.CloseWrite()
				if got, err := io.ReadAll(conn); string(got) != "out and back" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				r.log.wantEnd(t, endClosed)
			})
		}
	})
	for range 2 {
		if err := loopback.Up(); err != nil {
			t.Errorf("the interface is up, and loopback.Up says %v", err)
		}
	}
}
