package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/vsock"
	"golang.org/x/sys/unix"
)

// firstPassed is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstPassed = 3

// maxPassed is far more than anybody's sockets.
const maxPassed = 1024

// passedListeners returns the listeners that systemd passes (sd_listen_fds(3)), and
// unsets what says so.
func passedListeners(getenv func(string) string, unsetenv func(string) error) ([]passedListener, error) {
	pid, count, names := getenv("LISTEN_PID"), getenv("LISTEN_FDS"), strings.Split(getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		_ = unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // for nobody, or for a parent process
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxPassed {
		return nil, fmt.Errorf("LISTEN_FDS %q is not a number from 0 to %d", count, maxPassed)
	}
	var passed []passedListener
	for i := range n {
		name := "unknown" // as systemd says where it has no names
		if len(names) == n {
			name = names[i]
		}
		l, err := passedListenerOf(firstPassed + i)
		if err != nil {
			for _, p := range passed {
				_ = p.Close()
			}
			return nil, fmt.Errorf("the socket %+q that systemd passes: %w", name, err)
		}
		passed = append(passed, passedListener{l, name})
	}
	return passed, nil
}

func passedListenerOf(fd int) (net.Listener, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "passed")
	defer func() { _ = f.Close() }() // the listener has a duplicate
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, fmt.Errorf("is not a socket: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	// A sequence of packets listens, too, and loses what is not read at once.
	if listens == 0 || kind != unix.SOCK_STREAM {
		return nil, fmt.Errorf("does not listen for streams; it needs ListenStream= and Accept=no")
	}
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return nil, err
	}
	if family == unix.AF_VSOCK { // package net does not know it
		return vsock.FileListener(f)
	}
	return net.FileListener(f)
}

// monotonicMicros is the time that systemd wants to know of a reload.
func monotonicMicros() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
