package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/preface"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/unixsock"
)

// The hybrid vsock handshake is Firecracker's (docs/vsock.md, "Host-Initiated
// Connections"): the host connects to the Unix socket and writes
// "CONNECT <port>\n"; "OK <assigned host port>\n" comes back once the connection
// is established; everything after these two lines is the stream.
const (
	// handshakeTimeout bounds how long a client of a hybrid listener may take
	// over its CONNECT line; as long as a Dialer waits by default.
	handshakeTimeout = defaultDialTimeout

	// maxHandshakes bounds the connections of one hybrid listener that are in
	// the handshake or wait for Accept. Further ones wait in the kernel.
	maxHandshakes = 256

	// firstHostPort is where Firecracker starts to number the host's ports.
	firstHostPort = 1 << 30
)

// dialHybrid connects to the Unix socket at path and asks for a vsock port.
func dialHybrid(ctx context.Context, path string, port uint32) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	err = handshake(ctx, conn, func() error { return askForPort(conn, port) })
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func askForPort(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return err
	}
	return preface.ReadHybridAnswer(conn)
}

// hybridListener answers CONNECT on a Unix socket. Handshakes run beside the
// accept loop, so that a slow client delays nobody else.
type hybridListener struct {
	unix     *unixsock.Listener
	port     uint32
	timeout  time.Duration // of one handshake
	hostPort atomic.Uint32

	ready  chan net.Conn // handshake done; unbuffered, so that Close leaves none behind
	failed chan error    // what the accept loop met
	slots  chan struct{} // counts handshakes

	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup
}

func listenHybrid(ctx context.Context, path string, port uint32, timeout time.Duration) (*hybridListener, error) {
	inner, err := unixsock.Listen(ctx, path)
	if err != nil {
		return nil, err
	}
	l := &hybridListener{
		unix:    inner,
		port:    port,
		timeout: timeout,
		ready:   make(chan net.Conn),
		failed:  make(chan error),
		slots:   make(chan struct{}, maxHandshakes),
	}
	l.hostPort.Store(firstHostPort - 1)
	l.closing, l.close = context.WithCancel(context.Background())
	l.running.Go(l.acceptLoop)
	return l, nil
}

func (l *hybridListener) acceptLoop() {
	for {
		select {
		case l.slots <- struct{}{}:
		case <-l.closing.Done():
			return
		}
		conn, err := l.unix.Accept()
		if err != nil {
			<-l.slots
			// Whoever calls Accept decides what to do about the error. Until
			// somebody does, the loop rests: no busy loop on EMFILE.
			select {
			case l.failed <- err:
				continue
			case <-l.closing.Done():
				return
			}
		}
		l.running.Go(func() {
			defer func() { <-l.slots }()
			l.handshake(conn)
		})
	}
}

func (l *hybridListener) handshake(conn net.Conn) {
	if err := l.answer(conn); err != nil {
		_ = conn.Close()
		return
	}
	select {
	case l.ready <- conn:
	case <-l.closing.Done():
		_ = conn.Close()
	}
}

// answer reads CONNECT and answers OK. There is no way to say no in this
// protocol but to close.
func (l *hybridListener) answer(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(l.timeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(l.closing, func() { _ = conn.Close() })
	defer stop()

	line, err := preface.ReadLine(conn)
	if err != nil {
		return err
	}
	if line != fmt.Sprintf("CONNECT %d", l.port) {
		return errors.New("not a CONNECT for this port")
	}
	if _, err := fmt.Fprintf(conn, "OK %d\n", l.hostPort.Add(1)); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// Accept returns the next connection whose handshake is done.
func (l *hybridListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.ready:
		return conn, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closing.Done():
		return nil, &net.OpError{Op: "accept", Net: "unix", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

// Addr returns the address of the Unix socket.
func (l *hybridListener) Addr() net.Addr { return l.unix.Addr() }

// Close stops listening, removes the socket file and waits for handshakes in
// progress, which it cuts.
func (l *hybridListener) Close() error {
	l.close()
	err := l.unix.Close()
	l.running.Wait()
	return err
}
