//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// bootDuties does what the first process of an enclave has to do before an
// application can run, with the library's functions.
func (g *guest) bootDuties() {
	g.check("boot/loopback", func(ctx context.Context) (string, error) {
		if conn, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second); err == nil || !errors.Is(err, unix.ENETUNREACH) {
			if err == nil {
				conn.Close()
			}
			return "", fmt.Errorf("lo is not down at boot: %w", err)
		}
		if err := errors.Join(vsockproxy.LoopbackUp(), vsockproxy.LoopbackUp()); err != nil {
			return "", err
		}
		l, err := vsockproxy.ListenLoopback(ctx, "127.0.0.1:443")
		if err != nil {
			return "", err
		}
		defer l.Close()
		conn, err := net.Dial("tcp", "127.0.0.1:443")
		if err != nil {
			return "", err
		}
		return "down at boot, and up: 127.0.0.1:443 can be reached", conn.Close()
	})

	// On both machines the guest's own context ID is that of a Nitro enclave's
	// parent, so that what it sends to the parent arrives at itself.
	g.check("boot/heartbeat", func(ctx context.Context) (string, error) {
		if parameter("e2e.host") != "vsock" {
			return "", skipped("without a host's vsock this guest has no context ID but 1")
		}
		l, err := vsockproxy.Listen(ctx, vsockproxy.Vsock(vsockproxy.AnyCID, vsockproxy.HeartbeatPort))
		if err != nil {
			return "", err
		}
		defer l.Close()
		beat := make(chan error, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				beat <- err
				return
			}
			defer conn.Close()
			var b [1]byte
			if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 0xB7 {
				beat <- fmt.Errorf("got %x, %w", b, err)
				return
			}
			_, err = conn.Write(b[:])
			beat <- err
		}()
		if err := errors.Join(vsockproxy.Heartbeat(ctx, vsockproxy.Endpoint{}), <-beat); err != nil {
			return "", err
		}
		return "0xB7 to CID 3 port 9000, and back", nil
	})
	g.check("boot/heartbeat-to-host", func(ctx context.Context) (string, error) {
		if parameter("e2e.host") != "vsock" {
			return "", skipped("the host has no vsock here")
		}
		return "0xB7 to CID 2 port 9000, and back", vsockproxy.Heartbeat(ctx, vsockproxy.Vsock(e2e.HostCID, e2e.BeatPort))
	})
	g.check("boot/heartbeat-unheard", func(ctx context.Context) (string, error) {
		err := vsockproxy.Heartbeat(ctx, vsockproxy.Vsock(1, vsockproxy.HeartbeatPort))
		var e *vsockproxy.Error
		if !errors.As(err, &e) || e.Reason != vsockproxy.ReasonRefused {
			return "", fmt.Errorf("%v", err)
		}
		return e.Error(), nil
	})

	g.check("boot/entropy", func(context.Context) (string, error) {
		var b [32]byte
		if n, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); n != len(b) || err != nil {
			return "", fmt.Errorf("the kernel's generator is not seeded: %d bytes, %w", n, err)
		}
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		return "the kernel's generator is seeded: " + entropyAvailable() + " bits", nil
	})
}
