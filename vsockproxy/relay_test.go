package vsockproxy

import (
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runRelay relays and returns how that ended.
func runRelay(r *relay) error {
	ended := make(chan error, 1)
	r.start(0, func(err error) { ended <- err })
	return <-ended
}

// One direction rests for much longer than the idle timeout while the other moves.
func TestMovingConnectionIsNotIdle(t *testing.T) {
	const idle = 100 * time.Millisecond
	client, enclave := pair(t)
	target, server := pair(t)
	r := newRelay(enclave, target, idle)
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()
	began := time.Now()
	message := make([]byte, 1)
	for time.Since(began) < 5*idle {
		// However slow the machine is, the relay may not end by the clock that it
		// goes by itself.
		if _, err := client.Write(message); err != nil {
			break
		}
		if _, err := io.ReadFull(server, message); err != nil {
			break
		}
	}
	select {
	case err := <-ended:
		t.Skipf("this machine stood still for %v: %v", idle, err)
	default:
	}
	err := <-ended
	if !errors.Is(err, errIdle) {
		t.Errorf("the relay ended with %v, want %v", err, errIdle)
	}
	if rested := time.Since(r.began) - time.Duration(r.moved.Load()); rested < idle {
		t.Errorf("ended %v after the last byte, want at least %v", rested, idle)
	}
}

// What a timer finds decides, not when it was set: it never ends a relay early.
func TestCheckMeasuresFromTheLastByte(t *testing.T) {
	_, enclave := pair(t)
	target, _ := pair(t)
	r := newRelay(enclave, target, time.Hour)
	ended := make(chan error, 1)
	r.start(0, func(err error) { ended <- err })
	r.check() // as if the timer were early
	r.moved.Store(int64(-time.Hour))
	select {
	case err := <-ended:
		t.Fatalf("ended with %v before its time", err)
	default:
	}
	r.check()
	if err := <-ended; !errors.Is(err, errIdle) {
		t.Errorf("the relay ended with %v, want %v", err, errIdle)
	}
	r.check() // of a timer that was on its way
}

// pair returns two ends of one connection.
func pair(t *testing.T) (a, b duplex) {
	t.Helper()
	l := mustListen(t, TCP("127.0.0.1:0"))
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(duplex), mustAccept(t, l).(duplex)
}

// deafConn takes no bytes and says so on a channel.
type deafConn struct {
	wrapped
	refused chan struct{}
}

func (c deafConn) Write([]byte) (int, error) {
	close(c.refused)
	return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
}

// A target that refuses the rest of a request, says why, and closes: what it said
// must arrive.
func TestLastWordsArrive(t *testing.T) {
	client, enclave := pair(t)
	target, server := pair(t)
	deaf := deafConn{wrapped{target}, make(chan struct{})}
	r := newRelay(enclave, deaf, time.Hour)
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()

	mustWrite(t, client, "a request too large")
	<-deaf.refused
	mustWrite(t, server, "413")
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
	client, enclave := pair(t)
	target, _ := pair(t)
	r := newRelay(enclave, deafConn{wrapped{target}, make(chan struct{})}, 20*time.Millisecond)
	ended := make(chan error, 1)
	go func() { ended <- runRelay(r) }()
	mustWrite(t, client, "hello")
	wantCut(t, client)
	if err := <-ended; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the relay ended with %v, want %v", err, syscall.EPIPE)
	}
}

// A client that has closed for good does not hold its slot for the whole idle
// timeout while the target is silent, whichever of the two went.
func TestAbandonedConnectionEnds(t *testing.T) {
	for _, gone := range []string{"the enclave", "the target"} {
		t.Run(gone, func(t *testing.T) {
			client, enclave := pair(t)
			target, server := pair(t)
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
			mustWrite(t, client, "hello")
			wantRead(t, server, "hello")
			_ = leaver.Close()
			err := <-ended
			if !errors.Is(err, errIdle) || !strings.Contains(err.Error(), gone) {
				t.Errorf("the relay ended with %v, want %v because of %s", err, errIdle, gone)
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
