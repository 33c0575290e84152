package channel

import (
	"context"
	"net/http/httptrace"
	"sync/atomic"
)

// Phase is how far an attempt has come on its way to KMS and back. The phase in which
// it ended tells more of the cause than the errno, which nearly always is ECONNRESET
// or EOF.
type Phase int32

// The phases, in their order.
const (
	Connecting Phase = iota
	ShakingHands
	Sending
	Waiting
	Receiving
)

func (p Phase) String() string {
	switch p {
	case Connecting:
		return "while connecting"
	case ShakingHands:
		return "in the TLS handshake"
	case Sending:
		return "in the middle of the request"
	case Waiting:
		return "after the request, before the response"
	}
	return "in the middle of the response"
}

// Progress is how far one attempt has come. The transport reports it from goroutines of
// its own. The zero value is the beginning.
type Progress struct {
	phase  atomic.Int32
	reused atomic.Bool // the connection has carried other requests before
}

// reach never goes back: a request that waits for a connection may get another one than
// is being dialed for it.
func (p *Progress) reach(to Phase) {
	for {
		now := p.phase.Load()
		if now >= int32(to) || p.phase.CompareAndSwap(now, int32(to)) {
			return
		}
	}
}

// At returns how far the attempt has come, which is Connecting if p is nil.
func (p *Progress) At() Phase {
	if p == nil {
		return Connecting
	}
	return Phase(p.phase.Load())
}

func (p *Progress) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		TLSHandshakeStart: func() { p.reach(ShakingHands) },
		GotConn: func(c httptrace.GotConnInfo) {
			p.reused.Store(c.Reused)
			p.reach(Sending)
		},
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				p.reach(Waiting)
			}
		},
		GotFirstResponseByte: func() { p.reach(Receiving) },
	}
}

type progressKey struct{}

// WithProgress returns a context whose requests report to p how far they have come.
// It also marks them as harmless to repeat: see [Broken].
func WithProgress(ctx context.Context, p *Progress) context.Context {
	return context.WithValue(ctx, progressKey{}, p)
}

// isFollowed reports whether ctx is of WithProgress.
func isFollowed(ctx context.Context) bool { return ctx.Value(progressKey{}) != nil }

// progressOf returns a Progress of its own for a request that nobody follows.
func progressOf(ctx context.Context) *Progress {
	if p, ok := ctx.Value(progressKey{}).(*Progress); ok {
		return p
	}
	return new(Progress)
}
