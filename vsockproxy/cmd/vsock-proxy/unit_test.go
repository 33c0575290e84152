package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

func TestExposition(t *testing.T) {
	var e exposition
	e.family("m", "gauge", "Help.")
	e.sample(1)
	e.sample(0.5, "a", "x\\y\"z\n")
	e.sample(1e10, "a", "1", "b", "2")
	const want = "# HELP m Help.\n# TYPE m gauge\nm 1\nm{a=\"x\\\\y\\\"z\\n\"} 0.5\nm{a=\"1\",b=\"2\"} 1e+10\n"
	if got := e.String(); got != want {
		t.Errorf("%s", got)
	}
}

// On a machine without AF_VSOCK the error says what to do.
func TestWithoutVsock(t *testing.T) {
	err := &vsockproxy.Error{Op: "listen", Endpoint: vsockproxy.Vsock(vsockproxy.AnyCID, 8000), Reason: vsockproxy.ReasonUnsupported}
	if got := withAdvice(err); !strings.Contains(got, "modprobe") || !strings.Contains(got, "--listen") {
		t.Error(got)
	}
	err.Reason = vsockproxy.ReasonInUse
	if got := withAdvice(err); strings.Contains(got, "modprobe") {
		t.Error(got)
	}
}

// failing is a listener that fails to accept.
type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }

func TestAcceptFailures(t *testing.T) {
	c := newCounts()
	for _, err := range []error{syscall.EMFILE, net.ErrClosed, syscall.EMFILE} {
		if _, got := (countedListener{failing{err: err}, c}).Accept(); !errors.Is(got, err) {
			t.Errorf("%v", got)
		}
	}
	if c.failed.Load() != 2 || c.accepted.Load() != 0 || c.open() != 0 {
		t.Errorf("%d failed", c.failed.Load())
	}
}

func TestNotifier(t *testing.T) {
	unset := make(map[string]bool)
	notifierOf := func(env map[string]string) (*notifier, error) {
		return newNotifier(func(name string) string { return env[name] }, func(name string) error { unset[name] = true; return nil })
	}
	n, err := notifierOf(nil)
	if n != nil || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	n.send("READY=1")
	if n.watchdog() != nil {
		t.Error("a watchdog for nobody")
	}
	if len(unset) != 3 {
		t.Errorf("unset: %v", unset)
	}
	for _, address := range []string{"vsock:2:1", "relative", "/absent/socket"} {
		if n, err := notifierOf(map[string]string{"NOTIFY_SOCKET": address}); n != nil || err == nil {
			t.Errorf("%s: %v, %v", address, n, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	address := filepath.Join(dir, "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, test := range []struct {
		usec, pid string
		watched   bool
		ok        bool
	}{
		{"", "", false, true},
		{"1000000", "", true, true},
		{"1000000", "1", false, true}, // another process'
		{"soon", "", false, false},
		{"0", "", false, false},
		{"9223372036854775807", "", false, false},
	} {
		n, err := notifierOf(map[string]string{"NOTIFY_SOCKET": address, "WATCHDOG_USEC": test.usec, "WATCHDOG_PID": test.pid})
		if n == nil || (err == nil) != test.ok || (n.watchdog() != nil) != test.watched {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		n.send("READY=1")
		_ = n.conn.Close()
	}
}

// What does not end although it was cut does not keep a process that was told so.
func TestOneMoreSignal(t *testing.T) {
	var log bytes.Buffer
	s := &service{config: &config{}, log: slog.New(slog.NewJSONHandler(&log, nil))}
	signals := make(chan os.Signal, 3)
	for range cap(signals) {
		signals <- os.Interrupt
	}
	canceled := false
	cut := false
	err := s.loop(signals, nil, 1, func() { canceled = true }, func() { cut = true })
	if !errors.As(err, new(loggedError)) || !canceled || !cut {
		t.Errorf("%v, %v, %v", err, canceled, cut)
	}
	if lines := strings.Split(strings.TrimSpace(log.String()), "\n"); !strings.Contains(lines[len(lines)-1], `"msg":"ended","error":"one more signal: `) {
		t.Errorf("%s", log.String())
	}
}

// A broken listener is told once, by the log.
func TestBrokenListener(t *testing.T) {
	var log bytes.Buffer
	s := &service{config: &config{}, log: slog.New(slog.NewJSONHandler(&log, nil))}
	ended := make(chan error, 1)
	ended <- &vsockproxy.Error{Op: "Serve", Reason: vsockproxy.ReasonListener, Err: net.ErrClosed}
	err := s.loop(nil, ended, 1, func() {}, func() { t.Error("cut") })
	if !errors.As(err, new(loggedError)) || !strings.Contains(log.String(), `"msg":"ended","error":"listener-ended: `) {
		t.Errorf("%v: %s", err, log.String())
	}
}

// The first signal after that leaves the open connections their time, as any first one.
func TestSignalAfterBrokenListener(t *testing.T) {
	var log bytes.Buffer
	s := &service{config: &config{}, log: slog.New(slog.NewJSONHandler(&log, nil))}
	signals, ended := make(chan os.Signal), make(chan error)
	go func() {
		ended <- &vsockproxy.Error{Op: "Serve", Reason: vsockproxy.ReasonListener, Err: net.ErrClosed}
		signals <- os.Interrupt
		ended <- nil
	}()
	err := s.loop(signals, ended, 2, func() {}, func() { t.Error("cut") })
	if !errors.As(err, new(loggedError)) || !strings.Contains(log.String(), "a second signal cuts the open ones") {
		t.Errorf("%v: %s", err, log.String())
	}
}
