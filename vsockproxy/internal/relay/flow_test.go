package relay

import (
	"crypto/sha256"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

// relayed returns the two ends of a relay.
func relayed(t *testing.T, wrap func(net.Conn) net.Conn) (client, server conntest.Duplex) {
	t.Helper()
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	r := newRelay(wrap(enclave), wrap(target), time.Hour)
	ended := make(chan error, 1)
	r.Start(func(err error) { ended <- err })
	t.Cleanup(func() {
		r.Cut()
		<-ended
	})
	return client, server
}

// Neither side reads: what a relay takes in is bounded, and so is what it borrows.
func TestBackpressure(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"sockets": func(conn net.Conn) net.Conn { return conn },
		"others":  func(conn net.Conn) net.Conn { return conntest.Wrapped{Duplex: conn.(conntest.Duplex)} },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := relayed(t, wrap)
			// Write until nothing has been taken for a while, both ways.
			var writers sync.WaitGroup
			total := make([]int64, 2)
			for i, conn := range []conntest.Duplex{client, server} {
				writers.Go(func() {
					chunk := make([]byte, 64<<10)
					for {
						_ = conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
						n, err := conn.Write(chunk)
						total[i] += int64(n)
						if err != nil {
							return
						}
					}
				})
			}
			writers.Wait()
			// Then everything arrives: nothing was lost and nothing is locked up.
			for i, conn := range []conntest.Duplex{server, client} {
				sender := []conntest.Duplex{client, server}[i]
				if err := sender.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, conn); n != total[i] || err != nil {
					t.Errorf("%d of %d bytes arrived, %v", n, total[i], err)
				}
			}
		})
	}
}

// A stream changes its pace: small messages, bulk, and small ones again. Buffers and
// pipes go back when it rests.
func TestPaceChanges(t *testing.T) {
	client, server := relayed(t, func(conn net.Conn) net.Conn { return conn })
	for range 3 {
		for _, size := range []int{1, 100, smallBuffer, smallBuffer + 1, 4 << 20, largeBuffer, 7} {
			sent := conntest.Noise(uint64(size), size)
			var writing sync.WaitGroup
			writing.Go(func() { _, _ = client.Write(sent) })
			got := make([]byte, size)
			if _, err := io.ReadFull(server, got); err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
				t.Errorf("%d bytes arrived as others, %v", size, err)
			}
			writing.Wait()
		}
	}
	if n := largeInUse.Load(); n != 0 {
		t.Errorf("%d large buffers are in use while nothing moves", n)
	}
}

// The large buffers of a process are bounded, and streams without one go on.
func TestLargeBuffersAreBounded(t *testing.T) {
	var flows []*flow
	for range maxLargeBuffers + 2 {
		f := &flow{bulk: true}
		f.borrow()
		flows = append(flows, f)
	}
	large := 0
	for _, f := range flows {
		if len(f.buf) == largeBuffer {
			large++
		} else if len(f.buf) != smallBuffer {
			t.Errorf("a buffer of %d bytes", len(f.buf))
		}
		f.release()
	}
	if large != maxLargeBuffers {
		t.Errorf("%d large buffers, want %d", large, maxLargeBuffers)
	}
	if n := largeInUse.Load(); n != 0 {
		t.Errorf("%d large buffers are in use after all were given back", n)
	}
}
