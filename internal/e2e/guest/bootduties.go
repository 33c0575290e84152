//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm/boot"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// The modules, in the order in which they depend on each other.
var (
	vsockModules = []string{"virtio_mmio", "vsock", "vmw_vsock_virtio_transport_common", "vsock_loopback", "vmw_vsock_virtio_transport"}
	allModules   = append([]string{"nsm"}, vsockModules...)
)

func modulePaths(names []string) []string {
	var paths []string
	for _, name := range names {
		paths = append(paths, "/modules/"+name+".ko")
	}
	return paths
}

// bootDuties has the library do what the first process of an enclave has to do
// before an application can run. Mount has been done, or there would be no report.
func (g *guest) bootDuties() {
	g.check("boot/before", func(context.Context) (string, error) {
		if conn, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second); !errors.Is(err, unix.ENETUNREACH) {
			if err == nil {
				conn.Close()
			}
			return "", fmt.Errorf("the loopback interface is not down: %v", err)
		}
		return "loopback is down; entropy " + entropyAvailable() + " bits", nil
	})

	// Both guests' context ID is 3, by which a Nitro enclave reaches its parent: the
	// heartbeat that boot.Run sends to its default address comes back to here.
	var beats atomic.Int64
	var parent net.Listener
	defer func() {
		if parent != nil {
			parent.Close() // the tests of vsockproxy want nobody there
		}
	}()
	g.check("boot/modules", func(ctx context.Context) (string, error) {
		if err := boot.LoadModules(modulePaths(vsockModules)...); err != nil {
			return "", err
		}
		l, err := vsockproxy.Listen(ctx, vsockproxy.Vsock(vsockproxy.AnyCID, boot.HeartbeatPort))
		if err != nil {
			return "", err
		}
		parent = l
		go answerBeats(l, &beats)
		return strings.Join(vsockModules, " "), nil
	})
	var log bytes.Buffer
	duties := boot.Options{Modules: modulePaths(allModules), Logger: slog.New(slog.NewTextHandler(&log, nil))}
	g.check("boot/run", func(ctx context.Context) (string, error) {
		if err := boot.Run(ctx, duties); err != nil {
			return "", fmt.Errorf("%w\n%s", err, log.Bytes())
		}
		for _, step := range []boot.Reason{boot.ReasonMount, boot.ReasonModules, boot.ReasonLoopback, boot.ReasonEntropy, boot.ReasonClock, boot.ReasonHeartbeat} {
			if !strings.Contains(log.String(), "step="+string(step)+" ") {
				return "", fmt.Errorf("no step %s in the log\n%s", step, log.Bytes())
			}
		}
		return "all six steps; the clock was left as it was, since there is no hypervisor's", nil
	})
	g.check("boot/run-again", func(ctx context.Context) (string, error) {
		if err := boot.Run(ctx, duties); err != nil {
			return "", err
		}
		return "does no harm", nil
	})
	g.check("boot/heartbeat", func(context.Context) (string, error) {
		if n := beats.Load(); n != 1 {
			return "", fmt.Errorf("%d arrived after two runs, want 1", n)
		}
		return "0xB7 to CID 3 port 9000 and back, once in two runs", nil
	})
	g.check("boot/heartbeat-to-host", func(ctx context.Context) (string, error) {
		if parameter("e2e.host") != "vsock" {
			return "", skipped("the host has no vsock here")
		}
		return "0xB7 to CID 2 port 9000 and back", boot.Heartbeat(ctx, vsockproxy.Vsock(e2e.HostCID, e2e.BeatPort))
	})
	g.check("boot/heartbeat-unheard", func(ctx context.Context) (string, error) {
		err := boot.Heartbeat(ctx, vsockproxy.Vsock(1, 9999))
		var e *vsockproxy.Error
		if !errors.As(err, &e) || e.Reason != vsockproxy.ReasonRefused {
			return "", fmt.Errorf("%v", err)
		}
		return e.Error(), nil
	})
	g.check("boot/loopback", func(ctx context.Context) (string, error) {
		l, err := vsockproxy.ListenLoopback(ctx, "127.0.0.1:443")
		if err != nil {
			return "", err
		}
		defer l.Close()
		conn, err := net.Dial("tcp", "127.0.0.1:443")
		if err != nil {
			return "", err
		}
		return "127.0.0.1:443 can be reached", conn.Close()
	})
	g.check("boot/entropy", func(context.Context) (string, error) {
		var b [32]byte
		if n, err := unix.Getrandom(b[:], unix.GRND_NONBLOCK); n != len(b) || err != nil {
			return "", fmt.Errorf("the kernel's generator is not seeded: %d bytes, %w", n, err)
		}
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		return entropyAvailable() + " bits; getrandom doesn't wait", nil
	})
	g.check("boot/clock", func(context.Context) (string, error) {
		_, err := boot.SetClock()
		if !errors.Is(err, boot.ReasonNoClock) {
			return "", fmt.Errorf("%v, and QEMU without KVM has no such clock", err)
		}
		return err.Error(), nil
	})
}

// answerBeats sends heartbeats back, as nitro-cli does.
func answerBeats(l net.Listener, beats *atomic.Int64) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err == nil && b[0] == 0xB7 {
			beats.Add(1)
			_, _ = conn.Write(b[:])
		}
		conn.Close()
	}
}
