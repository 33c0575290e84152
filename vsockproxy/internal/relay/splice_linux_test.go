package relay

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func TestBulkIsSpliced(t *testing.T) {
	for name, enclaveSide := range map[string]func(*testing.T) (a, b conntest.Duplex){"tcp": conntest.Pair, "unix": conntest.UnixPair} {
		t.Run(name, func(t *testing.T) {
			client, enclave := enclaveSide(t)
			target, server := conntest.Pair(t)
			sent := conntest.Noise(1, 8<<20)
			// The relay finds all of it, whoever is how fast.
			r := newRelay(enclave, target, time.Hour)
			r.toTarget.bulk, r.toEnclave.bulk = true, true
			ended := make(chan error, 1)
			go func() { ended <- runRelay(r) }()
			var both sync.WaitGroup
			for _, ends := range [][2]conntest.Duplex{{client, server}, {server, client}} {
				both.Go(func() {
					_, _ = ends[0].Write(sent)
					_ = ends[0].CloseWrite()
				})
				both.Go(func() {
					got, err := io.ReadAll(ends[1])
					if err != nil || !bytes.Equal(got, sent) {
						t.Errorf("%d of %d bytes arrived, or others, %v", len(got), len(sent), err)
					}
				})
			}
			both.Wait()
			if err := <-ended; err != nil {
				t.Errorf("the relay ended with %v", err)
			}
			if r.toTarget.unspliceable || r.toEnclave.unspliceable {
				t.Error("the kernel did not splice")
			}
			if idle, all := len(idlePipes), pipeCount.Load(); all == 0 || int(all) != idle {
				t.Errorf("%d of %d pipes are idle after the relay has ended", idle, all)
			}
		})
	}
}

// Where a pipe cannot be had, bytes are copied.
func TestNoPipeLeft(t *testing.T) {
	had := pipeCount.Swap(MaxPipes)
	var taken []*pipe
	for len(idlePipes) > 0 {
		taken = append(taken, <-idlePipes)
	}
	defer func() {
		pipeCount.Store(had)
		for _, p := range taken {
			idlePipes <- p
		}
	}()
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	r := newRelay(enclave, target, time.Hour)
	r.toTarget.bulk = true
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()
	sent := conntest.Noise(2, 4<<20)
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, or others, %v", len(got), len(sent), err)
	}
	_ = server.Close()
	if err := <-ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

// A destination may turn out not to take what is in the pipe already.
func TestSpliceOutUnsupported(t *testing.T) {
	const text = "what is in the pipe"
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	conntest.Write(t, client, text)
	r := newRelay(enclave, target, time.Hour)
	f := &r.toTarget
	defer f.release()
	f.bulk = true
	if err := f.fill(f.readable); err != nil || f.piped != len(text) {
		t.Fatalf("%d bytes in the pipe, %v", f.piped, err)
	}
	// splice(2) refuses what is no file of the right kind, an epoll instance here.
	if err := f.spliceOut(epollInstance(t)); err != nil || f.piped != 0 || string(f.chunk) != text || !f.unspliceable {
		t.Fatalf("%d bytes in the pipe, %q in the buffer, %v", f.piped, f.chunk, err)
	}
	if err := f.flush(f.writable); err != nil {
		t.Fatal(err)
	}
	conntest.WantRead(t, server, text)
}

// Before a byte that is marked as urgent splice(2) stops, as if there were no more, or
// the stream had ended. What comes behind must arrive all the same.
func TestUrgentByteInBulk(t *testing.T) {
	for _, ended := range []bool{true, false} {
		t.Run(fmt.Sprintf("ended=%v", ended), func(t *testing.T) {
			client, enclave := conntest.Pair(t)
			target, server := conntest.Pair(t)
			before, after := string(conntest.Noise(3, smallBuffer+1)), "behind it"
			conntest.Write(t, client, before)
			sendUrgent(t, client.(*net.TCPConn))
			conntest.Write(t, client, after)
			if ended {
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			// The relay finds all of it. Where it stops, it ends.
			r := newRelay(enclave, target, time.Minute)
			r.toTarget.bulk = true
			done := make(chan error, 1)
			go func() { done <- runRelay(r) }()
			got := make([]byte, len(before)+len(after))
			if n, err := io.ReadFull(server, got); err != nil || string(got) != before+after {
				t.Errorf("%d of %d bytes arrived, or others, %v", n, len(got), err)
			}
			_ = client.Close()
			_ = server.Close()
			if err := <-done; err != nil {
				t.Errorf("the relay ended with %v", err)
			}
		})
	}
}

func sendUrgent(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	send := func(fd uintptr) { err = unix.Send(int(fd), []byte("!"), unix.MSG_OOB) }
	if controlErr := raw.Control(send); controlErr != nil || err != nil {
		t.Fatal(err, controlErr)
	}
}

// A packet socket has the type of a stream socket, and is not written as one: bytes in
// a pipe could not go on.
func TestPacketSocketsAreNotSpliced(t *testing.T) {
	l, err := net.Listen("unixpacket", conntest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("unixpacket", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	target, server := conntest.Pair(t)
	r := newRelay(conntest.Accept(t, l), target, time.Hour)
	r.toEnclave.bulk = true
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()
	sent := conntest.Noise(5, 1<<20)
	go func() {
		_, _ = server.Write(sent)
		_ = server.CloseWrite()
	}()
	var got []byte
	for packet := make([]byte, smallBuffer); ; {
		n, err := client.Read(packet)
		got = append(got, packet[:n]...)
		if n == 0 || err != nil {
			break
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes arrived, or others", len(got), len(sent))
	}
	_ = client.Close()
	if err := <-ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

// A type that embeds a socket is not that socket: what its Read and Write do must be
// done.
func TestOnlySocketsAreRaw(t *testing.T) {
	_, tcp := conntest.Pair(t)
	if rawOf(tcp) == nil {
		t.Error("a TCP connection is not read as a socket")
	}
	for _, conn := range []net.Conn{
		struct{ *net.TCPConn }{tcp.(*net.TCPConn)},
		&net.TCPConn{}, &net.UnixConn{}, nil,
	} {
		if rawOf(conn) != nil {
			t.Errorf("%T is read as a socket", conn)
		}
	}
	// A packet that is read in part loses its rest.
	l, err := net.Listen("unixpacket", conntest.SocketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	packets, err := net.Dial("unixpacket", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packets.Close() }()
	if rawOf(packets) != nil {
		t.Error("a packet socket is read as a stream")
	}
}

// Writes to Unix sockets need no bound for the sake of a vsock device behind the
// socket, and none would help: a stream has no trace of how it was written.
func TestUnixStreamsHaveNoWrites(t *testing.T) {
	a, b := conntest.UnixPair(t)
	const pieces = 4
	for range pieces {
		conntest.Write(t, a, string(make([]byte, smallBuffer)))
	}
	buf := make([]byte, 2*pieces*smallBuffer)
	if n, err := b.Read(buf); n != pieces*smallBuffer || err != nil {
		t.Errorf("read %d bytes at once, %v; want all %d that were written in pieces", n, err, pieces*smallBuffer)
	}
}

func epollInstance(t *testing.T) int {
	t.Helper()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}
