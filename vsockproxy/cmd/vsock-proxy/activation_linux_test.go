package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// activate runs vsock-proxy with files as descriptors from 3 on, as systemd does:
// the shell's process ID stays that of the program. It may have few descriptors.
func activate(t *testing.T, names, config string, files ...*os.File) *process {
	t.Helper()
	dir := socketDir(t)
	path := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `ulimit -n 5000; LISTEN_PID=$$ exec "$@"`, "sh", "vsock-proxy", "serve", "--config", path)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names)
	p, err := launch(cmd, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

func (p *process) want(t *testing.T, l *lines, pattern string) {
	t.Helper()
	if err := l.wait(regexp.MustCompile(pattern)); err != nil {
		t.Fatal(err)
	}
}

// socketDir is a folder with a path short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func fileOf(t *testing.T, network, address string) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	t.Cleanup(func() { _ = f.Close() })
	return f, l.Addr()
}

const twoRoutes = `
routes:
- {name: a, listen: systemd, target: "127.0.0.1:1"}
- {name: b, listen: systemd, target: "127.0.0.1:2"}
`

// Sockets go to the routes of their names, one with two sockets too, and stay
// there when the process has ended, for the next.
func TestActivation(t *testing.T) {
	path := filepath.Join(socketDir(t), "a.sock")
	tcp, address := fileOf(t, "tcp", "127.0.0.1:0")
	plain, _ := fileOf(t, "unix", path)
	other, _ := fileOf(t, "tcp", "127.0.0.1:0")
	p := activate(t, "a:a:b", twoRoutes, tcp, plain, other)
	p.want(t, p.messages, "^READY=1\nSTATUS=2 routes")
	p.want(t, p.log, `msg=listening route=a on=systemd address="tcp `+regexp.QuoteMeta(address.String()))
	p.want(t, p.log, `msg=listening route=b`)
	for network, address := range map[string]string{"tcp": address.String(), "unix": path} {
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		p.want(t, p.log, `msg="connection ended" route=a peer="`+network+` .*end=refused`)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if p.code != 0 {
		t.Errorf("exit code %d", p.code)
	}
	// Each of the three sockets has the limit of its route.
	p.want(t, p.log, `add up to about 6347 descriptors`)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

// The socket that package net does not know.
func TestVsockActivation(t *testing.T) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}); err == nil {
			err = unix.Listen(fd, 1)
		}
	}
	if err != nil {
		t.Skipf("no AF_VSOCK on this machine: %v", err)
	}
	f := os.NewFile(uintptr(fd), "vsock")
	defer func() { _ = f.Close() }()
	p := activate(t, "a", strings.Replace(twoRoutes, "listen: systemd, target: \"127.0.0.1:2", "listen: \"tcp://127.0.0.1:0\", target: \"127.0.0.1:2", 1), f)
	p.want(t, p.messages, "^READY=1")
	p.want(t, p.log, `msg=listening route=a on=systemd address="vsock `)
}

func TestWrongActivation(t *testing.T) {
	listener, _ := fileOf(t, "tcp", "127.0.0.1:0")
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagrams.Close() }()
	udp, err := datagrams.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	packets, _ := fileOf(t, "unixpacket", filepath.Join(socketDir(t), "p.sock"))
	regular, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = regular.Close() }()
	for _, test := range []struct {
		names string
		files []*os.File
		says  string
	}{
		{"", nil, `route a listens on what systemd passes, and there is no socket with FileDescriptorName=a$`},
		{"b", []*os.File{listener}, `route a .*no socket with FileDescriptorName=a \(passed is "b"\)`},
		{"a:b:c", []*os.File{listener, listener, listener}, `passes a socket that no route takes \(passed is "c"\)`},
		{"a", []*os.File{listener, listener}, `no socket with .* \(passed is "unknown", "unknown"\)`},
		{"a:b", []*os.File{listener, udp}, `the socket "b" that systemd passes: does not listen for streams; it needs ListenStream= and Accept=no`},
		{"a:b", []*os.File{packets, listener}, `the socket "a" that systemd passes: does not listen for streams`},
		{"a:b", []*os.File{regular, listener}, `the socket "a" that systemd passes: is not a socket`},
	} {
		p := activate(t, test.names, twoRoutes, test.files...)
		<-p.exited
		p.want(t, p.log, test.says)
		if p.code != exitFailed {
			t.Errorf("%s: exit code %d", test.names, p.code)
		}
	}
}
