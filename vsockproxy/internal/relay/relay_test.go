package relay

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
)

func newRelay(enclave, target net.Conn, idle time.Duration) *Relay {
	return New(enclave, target, Config{Idle: idle})
}

// runRelay relays and returns how that ended.
func runRelay(r *Relay) error {
	ended := make(chan error, 1)
	r.Start(func(err error) { ended <- err })
	return <-ended
}

// What has moved decides, and not when a timer was set or which direction rests.
func TestIdleIsMeasuredFromTheLastByte(t *testing.T) {
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	r := newRelay(enclave, target, time.Hour)
	ended := make(chan error, 1)
	r.Start(func(err error) { ended <- err })
	wantOpen := func() {
		t.Helper()
		select {
		case err := <-ended:
			t.Fatalf("ended with %v before its time", err)
		default:
		}
	}
	r.check() // as if the timer were early
	wantOpen()
	r.moved.Store(int64(-2 * time.Hour))
	conntest.Write(t, server, "moves") // one way only
	conntest.WantRead(t, client, "moves")
	for r.toEnclave.written.Load() == 0 {
		runtime.Gosched() // until the relay is done with them, too
	}
	r.check()
	wantOpen()
	r.moved.Store(int64(-time.Hour))
	r.check()
	if err := <-ended; !errors.Is(err, ErrIdle) {
		t.Errorf("the relay ended with %v, want %v", err, ErrIdle)
	}
	r.check() // of a timer that was on its way
}

// deafConn takes no bytes and says so on a channel.
type deafConn struct {
	conntest.Wrapped
	refused chan struct{}
}

func (c deafConn) Write([]byte) (int, error) {
	close(c.refused)
	return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
}

// A deadline that was left on a connection ends nothing.
func TestForeignDeadline(t *testing.T) {
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	for _, conn := range []conntest.Duplex{enclave, target} {
		if err := conn.SetDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- runRelay(newRelay(enclave, target, time.Hour)) }()
	conntest.Write(t, client, "hello")
	conntest.WantRead(t, server, "hello")
	_ = client.Close()
	_ = server.Close()
	if err := <-ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

// A target that refuses the rest of a request, says why, and closes: what it said
// must arrive.
func TestLastWordsArrive(t *testing.T) {
	client, enclave := conntest.Pair(t)
	target, server := conntest.Pair(t)
	deaf := deafConn{conntest.Wrapped{Duplex: target}, make(chan struct{})}
	r := newRelay(enclave, deaf, time.Hour)
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()

	conntest.Write(t, client, "a request too large")
	<-deaf.refused
	conntest.Write(t, server, "413")
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(client); string(got) != "413" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the relay ended with %v", err)
	}
}

// A side that takes no bytes and says nothing does not hold the other one.
func TestSilentDeafSideIsCut(t *testing.T) {
	client, enclave := conntest.Pair(t)
	target, _ := conntest.Pair(t)
	r := newRelay(enclave, deafConn{conntest.Wrapped{Duplex: target}, make(chan struct{})}, 20*time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()
	conntest.Write(t, client, "hello")
	conntest.WantCut(t, client)
	if err := <-ended; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the relay ended with %v, want %v", err, syscall.EPIPE)
	}
}

// A client that has closed for good does not hold its slot for the whole idle
// timeout while the target is silent, whichever of the two went.
func TestAbandonedConnectionEnds(t *testing.T) {
	for _, gone := range []string{"the enclave", "the target"} {
		t.Run(gone, func(t *testing.T) {
			client, enclave := conntest.Pair(t)
			target, server := conntest.Pair(t)
			r := newRelay(enclave, target, time.Hour)
			if r.halfClose != HalfCloseTimeout {
				t.Errorf("the bound is %v", r.halfClose)
			}
			r.halfClose = 20 * time.Millisecond
			leaver := client
			if gone == "the target" {
				leaver = server
			}
			ended := make(chan error, 1)
			go func() { ended <- runRelay(r) }()
			conntest.Write(t, client, "hello")
			conntest.WantRead(t, server, "hello")
			_ = leaver.Close()
			err := <-ended
			if !errors.Is(err, ErrIdle) || !strings.Contains(err.Error(), gone) {
				t.Errorf("the relay ended with %v, want %v because of %s", err, ErrIdle, gone)
			}
		})
	}
}

// The bound does not lengthen a shorter idle timeout.
func TestHalfCloseKeepsShorterIdleTimeout(t *testing.T) {
	r := newRelay(nil, nil, time.Second)
	r.shorten(r.halfClose)
	if r.idle != time.Second {
		t.Errorf("idle timeout %v, want %v", r.idle, time.Second)
	}
}

// A client that leaves with a reset has had all it was to get, or not: only then is
// that an end like any other.
func TestClientResets(t *testing.T) {
	for _, test := range []struct {
		name            string
		request, answer string
		ended, inbound  bool
		byTarget        bool // the reset
		orderly         bool
	}{
		{name: "after all", request: "request", answer: "answer", ended: true, orderly: true},
		{name: "after all, in", request: "request", answer: "answer", ended: true, inbound: true, orderly: true},
		{name: "before the end", request: "request", answer: "answer"},
		{name: "without an answer", request: "request", ended: true},
		{name: "without a request", answer: "answer", ended: true},
		{name: "the other side", request: "request", answer: "answer", ended: true, byTarget: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, near := conntest.Pair(t)
			far, server := conntest.Pair(t)
			r := newRelay(near, far, time.Hour)
			if test.inbound {
				r = New(far, near, Config{Idle: time.Hour, Inbound: true})
			}
			if test.byTarget {
				client, server = server, client
			}
			ended := make(chan error, 1)
			r.Start(func(err error) { ended <- err })
			conntest.Write(t, client, test.request)
			conntest.WantRead(t, server, test.request)
			conntest.Write(t, server, test.answer)
			conntest.WantRead(t, client, test.answer)
			if test.ended {
				if err := server.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				conntest.WantCut(t, client)
			}
			if err := client.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
			conntest.WantCut(t, server)
			if err := <-ended; (err == nil) != test.orderly {
				t.Errorf("the relay ended with %v", err)
			}
		})
	}
}
