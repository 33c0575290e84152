package vsockproxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Defaults of the zero values in [Proxy].
const (
	DefaultMaxConns     = 1024
	DefaultIdleTimeout  = 5 * time.Minute
	DefaultDrainTimeout = 5 * time.Second
)

// Resolver finds the addresses of a name. *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Proxy runs on the parent instance and forwards every connection of a listener
// to one target. It copies bytes and understands none of them.
type Proxy struct {
	// Target is where to forward to, "host:port". It must be on Allow.
	Target string
	// Allow is the set of permitted targets. An empty one is an error.
	Allow Allowlist
	// Logger gets one line per connection, never payload. Nil means no logs.
	Logger *slog.Logger
	// Resolver finds the addresses of Target's name. Nil means net.DefaultResolver.
	Resolver Resolver

	// MaxConns bounds the connections open at once in one Serve; 0 means
	// DefaultMaxConns. Further ones wait, not accepted, in the kernel.
	MaxConns int
	// DialTimeout bounds resolving and dialling the target, over all of its
	// addresses; 0 means DefaultDialTimeout.
	DialTimeout time.Duration
	// IdleTimeout ends a connection on which nothing has moved in either
	// direction for so long; 0 means DefaultIdleTimeout.
	IdleTimeout time.Duration
	// DrainTimeout is how long connections may go on after the context of Serve
	// has ended; 0 means DefaultDrainTimeout.
	DrainTimeout time.Duration
}

// Serve accepts connections from l and forwards them until ctx ends.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	return &Error{Op: "serve", Reason: ReasonUnsupported, Detail: "the relay is not written yet"}
}
