package vsockproxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/relay"
)

// chaos is what one connection of TestChaos does, as its seed has it. Both ends
// read and write at once.
type chaos struct {
	seed    uint64
	up      half // from the enclave
	down    half // from the target
	orderly bool
}

// half is one stream.
type half struct {
	seed uint64
	size int  // bytes, if nobody cuts
	cut  bool // the sender cuts the connection after size, instead of ending its stream
}

func newChaos(seed uint64) chaos {
	random := rand.New(rand.NewPCG(seed, 0))
	size := func() int {
		// As many short streams as long ones: 0 bytes to 2 MiB.
		return random.IntN(1 << random.IntN(22))
	}
	c := chaos{seed: seed, up: half{seed: random.Uint64(), size: size()}, down: half{seed: random.Uint64(), size: size()}}
	switch random.IntN(5) {
	case 0:
		c.up.cut = true
	case 1:
		c.down.cut = true
	}
	c.orderly = !c.up.cut && !c.down.cut
	return c
}

// pause gives others a turn, or many.
func pause(random *rand.Rand) {
	for range random.IntN(1 << random.IntN(8)) {
		runtime.Gosched()
	}
}

func streamOf(h half) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], h.seed)
	return rand.NewChaCha8(key)
}

// send writes a stream in chunks of all sizes and ends it, or cuts.
func (h half) send(conn conntest.Duplex) (sum [sha256.Size]byte, err error) {
	random := rand.New(rand.NewPCG(h.seed, 1))
	hash := sha256.New()
	stream := streamOf(h)
	buf := make([]byte, 64<<10)
	for left := h.size; left > 0; {
		chunk := buf[:min(left, 1+random.IntN(1<<random.IntN(17)))]
		_, _ = io.ReadFull(stream, chunk)
		hash.Write(chunk)
		if _, err := conn.Write(chunk); err != nil {
			return sum, err
		}
		left -= len(chunk)
		pause(random)
	}
	hash.Sum(sum[:0])
	if h.cut {
		relay.Abort(conn)
		return sum, nil
	}
	return sum, conn.CloseWrite()
}

var errForeignBytes = errors.New("bytes that nobody sent")

// receive reads to the end and compares with what h sends. What comes must be the
// beginning of that, whatever happens.
func (h half) receive(conn net.Conn) (n int, sum [sha256.Size]byte, err error) {
	random := rand.New(rand.NewPCG(h.seed, 2))
	hash := sha256.New()
	stream := streamOf(h)
	buf, want := make([]byte, 128<<10), make([]byte, 128<<10)
	for {
		got, err := conn.Read(buf[:1+random.IntN(1<<random.IntN(18))])
		_, _ = io.ReadFull(stream, want[:got])
		n += got
		if !bytes.Equal(buf[:got], want[:got]) || n > h.size {
			return n, sum, fmt.Errorf("%w, before byte %d of %d", errForeignBytes, n, h.size)
		}
		hash.Write(buf[:got])
		if err != nil {
			hash.Sum(sum[:0])
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return n, sum, err
		}
		pause(random)
	}
}

// chaosEnd is one end of a connection.
type chaosEnd struct {
	sent, received [sha256.Size]byte
	n              int // bytes received
	err            error
}

func (c chaos) play(conn conntest.Duplex, out, in half) (e chaosEnd) {
	var both sync.WaitGroup
	var sendErr, receiveErr error
	both.Go(func() { e.sent, sendErr = out.send(conn) })
	e.n, e.received, receiveErr = in.receive(conn)
	both.Wait()
	_ = conn.Close()
	if c.orderly || errors.Is(receiveErr, errForeignBytes) {
		e.err = errors.Join(sendErr, receiveErr)
	}
	return e
}

// Whatever ends do to each other, no byte is invented, reordered or repeated, and of
// streams that both ends ended none is missing.
func TestChaos(t *testing.T) {
	connections := 300
	if testing.Short() || raceEnabled {
		connections = 100
	}
	eachTransport(t, func(t *testing.T, tr transport) {
		if tr.name == "vsock" {
			needVsockLoopback(t)
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var up, down, orderly atomic.Int64
		ends := make([]chan chaosEnd, connections) // of the targets
		for i := range ends {
			ends[i] = make(chan chaosEnd, 1)
		}
		r := start(t, tr, &Proxy{Route: To(origin(t, func(conn *net.TCPConn) {
			var number [4]byte
			if _, err := io.ReadFull(conn, number[:]); err != nil {
				return // it was cut that early
			}
			i := binary.LittleEndian.Uint32(number[:])
			c := newChaos(seed + uint64(i))
			end := c.play(conn, c.down, c.up)
			up.Add(int64(end.n))
			if end.err != nil {
				t.Errorf("connection %d at the target: %v", i, end.err)
			}
			ends[i] <- end
		})), MaxConns: connections})
		var playing sync.WaitGroup
		for i := range connections {
			playing.Go(func() {
				c := newChaos(seed + uint64(i))
				conn, err := r.DialContext(t.Context(), "", "")
				if err != nil {
					t.Errorf("connection %d: %v", i, err)
					return
				}
				number := binary.LittleEndian.AppendUint32(nil, uint32(i))
				if _, err := conn.Write(number); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
				enclave := c.play(conn.(conntest.Duplex), c.up, c.down)
				if enclave.err != nil {
					t.Errorf("connection %d at the enclave: %v", i, enclave.err)
				}
				down.Add(int64(enclave.n))
				if !c.orderly || enclave.err != nil {
					return // the target may not even know which connection it is
				}
				orderly.Add(1)
				target := <-ends[i]
				if enclave.sent != target.received || target.sent != enclave.received {
					t.Errorf("connection %d: %d of %d bytes arrived at the target, %d of %d at the enclave, or others", i, target.n, c.up.size, enclave.n, c.down.size)
				}
			})
		}
		playing.Wait()
		if t.Failed() {
			return // fewer log lines may come
		}
		counts := make(map[any]int)
		for range connections {
			counts[r.log.next("connection ended")["end"]]++
		}
		if n := counts[endClosed] + counts[endBroken]; n != connections || counts[endClosed] < int(orderly.Load()) {
			t.Errorf("the log says %v, of %d connections with %d orderly ones", counts, connections, orderly.Load())
		}
		t.Logf("%d connections, %d of them orderly: %d bytes arrived at the target so far, %d at the enclave; %v", connections, orderly.Load(), up.Load(), down.Load(), counts)
	})
}
