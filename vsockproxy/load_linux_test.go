package vsockproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/relay"
)

// What one idle connection may cost the process of the proxy.
const (
	maxIdleRSS      = 12_800 // bytes
	idleDescriptors = 2
)

// childEnv is set where this test binary is run again as a proxy, so that what is
// measured is the proxy's and not that of its clients and targets.
const childEnv = "VSOCKPROXY_TEST_CHILD"

// TestChildProxy is no test: it is the proxy of the tests below.
func TestChildProxy(t *testing.T) {
	name, target, ok := strings.Cut(os.Getenv(childEnv), " ")
	if !ok {
		t.Skip("run by other tests, in a process of its own")
	}
	descriptorLimit(t)
	for _, tr := range transports {
		if tr.name != name {
			continue
		}
		l, e := tr.listen(t)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		fmt.Println(childReady + e.String())
		p := Proxy{
			Route: To(target), Allow: mustAllow(t, target),
			Logger:   slog.New(slog.NewJSONHandler(io.Discard, nil)),
			MaxConns: 100_000, IdleTimeout: time.Hour,
			// Nobody leaves connections open, so one that is cut is a mistake, which
			// is to be told before the whole of go test runs into its time limit.
			DrainTimeout: 2 * time.Minute,
			OnEnd: func(e ConnEnd) {
				if e.End == endShutdown {
					t.Errorf("a connection from %v was open at the end, after %v, %d bytes out and %d in", e.Peer, e.Duration, e.FromEnclave, e.ToEnclave)
				}
			},
		}
		if err := p.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	}
}

const childReady = "the proxy listens on "

// child is a proxy in a process of its own.
type child struct {
	Dialer
	pid  int
	stop func() error // ends the process and returns how it ended
}

func startChild(t *testing.T, tr transport, target string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildProxy$", "-test.timeout=15m")
	cmd.Env = append(os.Environ(), childEnv+"="+tr.name+" "+target)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	lines := bufio.NewReader(io.TeeReader(out, &said))
	c := &child{pid: cmd.Process.Pid}
	c.stop = sync.OnceValue(func() error {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, lines)
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("the proxy's process: %w:\n%s", err, said.String())
		}
		return nil
	})
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	for {
		line, err := lines.ReadString('\n')
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), childReady); ok {
			if c.Endpoint, err = ParseEndpoint(text); err != nil {
				t.Fatal(err)
			}
			c.Timeout = time.Minute
			return c
		}
		if err != nil {
			t.Fatalf("the proxy's process says nothing of where it listens: %v\n%s", err, said.String())
		}
	}
}

func (c *child) descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// rss is the resident memory of the child, in bytes.
func (c *child) rss(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kib), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// descriptorLimit raises the limit of this process as far as it may, and returns
// how many connections fit into it at two descriptors each.
func descriptorLimit(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(limit.Max, 1<<20)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const others = 200
	return int(limit.Cur-others) / idleDescriptors
}

// plainEcho is an echo that needs no descriptors but its connection's.
func plainEcho(conn *net.TCPConn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := conn.Read(buf)
		if _, writeErr := conn.Write(buf[:n]); err != nil || writeErr != nil {
			_ = conn.CloseWrite()
			return
		}
	}
}

// dialMany opens connections and has each carry one message each way.
func (c *child) dialMany(t *testing.T, n int) []conntest.Duplex {
	t.Helper()
	conns := make([]conntest.Duplex, n)
	var next atomic.Int64
	var dialling sync.WaitGroup
	for range 8 {
		dialling.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				conn, err := c.DialContext(t.Context(), "", "")
				if err == nil {
					conns[i] = conn.(conntest.Duplex)
					err = exchange(conn, conntest.Noise(uint64(i), 1<<10))
				}
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		})
	}
	dialling.Wait()
	t.Cleanup(func() { closeAll(conns) })
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

func closeAll(conns []conntest.Duplex) {
	for _, conn := range conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// exchange sends a message and wants it back.
func exchange(conn net.Conn, message []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(message)
		sent <- err
	}()
	back := make([]byte, len(message))
	_, err := io.ReadFull(conn, back)
	if err == nil && string(back) != string(message) {
		err = errors.New("another message came back")
	}
	return errors.Join(err, <-sent)
}

// An idle connection costs the proxy two descriptors and little memory, also after
// it has been used.
func TestIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of connections")
	}
	const want = 10_000
	eachTransport(t, func(t *testing.T, tr transport) {
		if tr.name == "vsock" {
			needVsockLoopback(t)
		}
		n := min(want, descriptorLimit(t))
		if raceEnabled {
			n = min(n, 500)
		}
		if n < want {
			t.Logf("%d connections instead of %d, because of the descriptor limit or the race detector", n, want)
		}
		c := startChild(t, tr, origin(t, plainEcho))
		c.dialMany(t, 1) // what the process needs once is not counted
		descriptors, rss := c.descriptors(t), c.rss(t)
		c.dialMany(t, n)
		descriptors, rss = c.descriptors(t)-descriptors, c.rss(t)-rss
		each := rss / n
		t.Logf("%d idle connections: %d descriptors (%.3f each), %d KiB resident (%d bytes each)", n, descriptors, float64(descriptors)/float64(n), rss>>10, each)
		if descriptors != idleDescriptors*n {
			t.Errorf("%d descriptors for %d connections, want %d each", descriptors, n, idleDescriptors)
		}
		if each > maxIdleRSS && !raceEnabled {
			t.Errorf("%d bytes resident for each connection, want at most %d", each, maxIdleRSS)
		}
	})
}

// Many connections that rest beside many that work.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of connections")
	}
	wantIdle, wantBusy, rounds := 10_000, 1_000, 4
	eachTransport(t, func(t *testing.T, tr transport) {
		if tr.name == "vsock" {
			needVsockLoopback(t)
		}
		idle, busy := min(wantIdle, descriptorLimit(t)-wantBusy), wantBusy
		if raceEnabled || idle < 0 {
			idle, busy = 500, 100
		}
		if idle < wantIdle {
			t.Logf("%d idle and %d busy connections instead of %d and %d, because of the descriptor limit or the race detector", idle, busy, wantIdle, wantBusy)
		}
		seed := rand.Uint64()
		c := startChild(t, tr, origin(t, plainEcho))
		first := c.dialMany(t, 1)
		before := c.descriptors(t)
		resting := c.dialMany(t, idle)
		working := c.dialMany(t, busy)
		var moved atomic.Int64
		var work sync.WaitGroup
		for i, conn := range working {
			work.Go(func() {
				random := rand.New(rand.NewPCG(seed, uint64(i)))
				for range rounds {
					message := conntest.Noise(random.Uint64(), 1+random.IntN(64<<10))
					if err := exchange(conn, message); err != nil {
						t.Errorf("busy connection %d, seed %d: %v", i, seed, err)
						return
					}
					moved.Add(int64(len(message)))
				}
			})
		}
		work.Wait()
		for i, conn := range resting {
			if err := exchange(conn, []byte("still there")); err != nil {
				t.Fatalf("idle connection %d: %v", i, err)
			}
		}
		during := c.descriptors(t) - before
		closeAll(resting)
		closeAll(working)
		closeAll(first)
		t.Logf("seed %d: %d bytes each way over %d busy connections beside %d idle ones; the proxy had %d descriptors", seed, moved.Load(), busy, idle, during)
		if most := idleDescriptors*(idle+busy) + 2*relay.MaxPipes; during > most {
			t.Errorf("%d descriptors, want at most %d", during, most)
		}
		if err := c.stop(); err != nil { // also if it has leaked goroutines
			t.Error(err)
		}
	})
}
