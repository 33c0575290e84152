package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/mdlayher/vsock"
)

// closedCheck is how often the accept loop looks, while it may not accept, whether
// somebody has closed the listener.
const closedCheck = time.Second

// admission counts connections: all of them by slots, and those of each context ID if
// these are limited.
type admission struct {
	slots     chan struct{} // capacity Proxy.MaxConns
	maxPerCID int
	log       *slog.Logger

	mu     sync.Mutex
	perCID map[uint32]int
}

func newAdmission(maxConns, maxPerCID int, log *slog.Logger) *admission {
	return &admission{slots: make(chan struct{}, maxConns), maxPerCID: maxPerCID, log: log, perCID: make(map[uint32]int)}
}

func (a *admission) open() int { return len(a.slots) }

func (a *admission) freeSlot() { <-a.slots }

// waitForSlot takes a slot. It fails if ctx ends first, or l is closed.
func (a *admission) waitForSlot(ctx context.Context, l net.Listener) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	a.log.Warn("at the connection limit, further connections wait", "max_conns", cap(a.slots))
	look := time.NewTicker(closedCheck)
	defer look.Stop()
	for {
		select {
		case a.slots <- struct{}{}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
			if isClosed(l) {
				return net.ErrClosed
			}
		}
	}
}

// isClosed reports whether l was closed, as far as that shows without accepting.
func isClosed(l net.Listener) bool {
	switch l := l.(type) {
	case *hybridListener:
		return l.closing.Err() != nil
	case syscall.Conn: // TCP and Unix sockets
		raw, err := l.SyscallConn()
		if err == nil {
			err = raw.Control(func(uintptr) {})
		}
		return errors.Is(err, net.ErrClosed)
	}
	return false
}

// admit counts conn among the connections of its peer's context ID. The caller calls
// leave when conn has ended.
func (a *admission) admit(conn net.Conn) (leave func(), err error) {
	peer, ok := conn.RemoteAddr().(*vsock.Addr)
	if !ok || a.maxPerCID == 0 {
		return func() {}, nil
	}
	cid := peer.ContextID
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.perCID[cid] >= a.maxPerCID {
		return nil, &Error{Op: "Serve", Reason: ReasonLimit, Field: "client", Detail: fmt.Sprintf("context ID %d has %d connections open, and Proxy.MaxConnsPerCID allows no more", cid, a.maxPerCID)}
	}
	a.perCID[cid]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.perCID[cid]--; a.perCID[cid] == 0 {
			delete(a.perCID, cid)
		}
	}, nil
}
