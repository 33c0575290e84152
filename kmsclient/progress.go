package kmsclient

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// phase is how far an attempt has come on its way to KMS and back. Where it
// ended tells more of the cause than the errno does: it is ECONNRESET or EOF in
// nearly all of them.
type phase int32

const (
	connecting phase = iota
	shakingHands
	sending
	waiting
	receiving
)

func (p phase) String() string {
	switch p {
	case connecting:
		return "while connecting"
	case shakingHands:
		return "in the TLS handshake"
	case sending:
		return "in the middle of the request"
	case waiting:
		return "after the request, before the answer"
	}
	return "in the middle of the answer"
}

// progress is how far one attempt has come. The transport tells of it in
// goroutines of its own. The zero value is the beginning.
type progress struct {
	phase  atomic.Int32
	reused atomic.Bool // the connection has carried other requests before
}

// reach never goes back: a request that waits for a connection may get another
// one than is being dialed for it.
func (p *progress) reach(to phase) {
	for {
		now := p.phase.Load()
		if now >= int32(to) || p.phase.CompareAndSwap(now, int32(to)) {
			return
		}
	}
}

// at returns how far the attempt has come, connecting for one that was none.
func (p *progress) at() phase {
	if p == nil {
		return connecting
	}
	return phase(p.phase.Load())
}

func (p *progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		TLSHandshakeStart: func() { p.reach(shakingHands) },
		GotConn: func(c httptrace.GotConnInfo) {
			p.reused.Store(c.Reused)
			p.reach(sending)
		},
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				p.reach(waiting)
			}
		},
		GotFirstResponseByte: func() { p.reach(receiving) },
	}
}

type progressKey struct{}

// withProgress has the channel tell p how far the request with this context
// comes.
func withProgress(ctx context.Context, p *progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// isFollowed reports whether the request with this context is one of those.
func isFollowed(ctx context.Context) bool { return ctx.Value(progressKey{}) != nil }

// progressOf is for requests of operations that nobody follows, too.
func progressOf(ctx context.Context) *progress {
	if p, ok := ctx.Value(progressKey{}).(*progress); ok {
		return p
	}
	return new(progress)
}
