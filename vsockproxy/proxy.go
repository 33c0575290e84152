package vsockproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// What the zero values of a [Proxy] stand for. DialTimeout has the Dialer's
// default, [DefaultDialTimeout].
const (
	DefaultMaxConns         = 1024
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultIdleTimeout      = 5 * time.Minute
	DefaultDrainTimeout     = 5 * time.Second
)

// Resolver finds the addresses of a name. *net.Resolver is one. The proxy asks
// for network "ip", and for a host that ends with a dot: it is absolute, and no
// search list may be applied to it.
//
// A *net.Resolver with PreferGo finds such a host in /etc/hosts if it has two
// labels or more. The C library's resolver, which Go asks on some systems, may
// look for the final dot there too, and find nothing.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Proxy runs on the parent instance and forwards every connection that a
// listener accepts to one target, or along another [Route]. It copies bytes, and
// understands none of them but those that name the target on some routes: TLS
// starts inside the enclave and ends at the target.
//
// A Proxy holds configuration only. Serve may be called several times, also at
// once on several listeners, as long as nobody changes the fields meanwhile;
// limits count per call.
type Proxy struct {
	// Target is where to forward to, "host:port". It must be on Allow.
	Target string
	// Route takes the place of Target where connections do not all go to one
	// target, or go to the enclave. It is an error to set both.
	Route Route
	// Allow is the set of permitted targets. An empty one is an error, unless
	// AllowFrom is set, and but for [ToEnclave], where one that is not empty is an
	// error.
	Allow Allowlist
	// AllowFrom, if not nil, takes the place of Allow, and setting both is an
	// error. It is called when Serve begins, for a list that must not be empty
	// and must have Target, and once for every connection; from then on a target
	// that is not listed is refused per connection. Connections that are open go
	// on whatever later lists say. It must be safe for concurrent use and return
	// at once; [AllowlistFile].Allowlist is meant for it.
	AllowFrom func() Allowlist
	// Logger gets one line per connection when it ends: peer, target, address,
	// bytes each way, duration, and why it ended. It never gets payload, except
	// for the target that the client named, also a malformed one. Nil
	// means no logs. A panic of its handler loses that line and nothing else; a
	// handler that blocks holds up what it is told of.
	Logger *slog.Logger
	// OnEnd, if not nil, is called once for every connection that was accepted,
	// when it has ended and before its log line: to count connections and bytes,
	// for instance. It is called by many goroutines at once, and should return at
	// once, since the connection counts against MaxConns meanwhile. A panic of it
	// changes nothing.
	OnEnd func(ConnEnd)
	// Resolver finds the addresses of the target's name; it is asked for every
	// connection. Nil means a [CachingResolver] of Serve's own, with its defaults
	// and Logger.
	Resolver Resolver
	// AddressFamily restricts the addresses that are dialled to IPv4 or to IPv6,
	// or says which to begin with. The zero value takes both, as the resolver
	// orders them.
	AddressFamily AddressFamily

	// MaxConns bounds the connections open at once in one Serve; zero means
	// DefaultMaxConns. While there are as many, Serve does not accept, and
	// further ones wait in the kernel's queue.
	//
	// A connection needs two file descriptors while it is forwarded, one for each
	// side, and up to nine for the moment of dialling a name with several addresses.
	// All connections together need 64 more at most, for pipes. Allow the process
	// (RLIMIT_NOFILE, systemd's LimitNOFILE) about 2*MaxConns + 200: where they
	// run out, connections wait or fail, and none that is open ends.
	MaxConns int
	// MaxConnsPerCID bounds the connections that one context ID has open at once
	// in one Serve, so that one enclave cannot keep out the others of the same
	// parent. Further ones are closed at once, with [ReasonLimit] in the log. Zero
	// means no limit but MaxConns, because an enclave that is alone has nobody to
	// keep out. It applies to vsock only; a hybrid socket belongs to one guest.
	MaxConnsPerCID int
	// HandshakeTimeout bounds how long a client may take to say where it wants to
	// go, on a [Connect] or [ServerName] route; zero means
	// DefaultHandshakeTimeout.
	HandshakeTimeout time.Duration
	// DialTimeout bounds resolving and dialling together, over all addresses of
	// the target; zero means DefaultDialTimeout.
	DialTimeout time.Duration
	// IdleTimeout ends a connection on which no byte has moved in either
	// direction for so long; zero means DefaultIdleTimeout. Once one direction
	// has ended, one minute counts if that is shorter.
	IdleTimeout time.Duration
	// MaxLifetime cuts a connection that has been forwarded for so long, whatever
	// moves on it; zero means no limit.
	MaxLifetime time.Duration
	// DrainTimeout is how long open connections may go on after the context of
	// Serve has ended; zero means DefaultDrainTimeout.
	DrainTimeout time.Duration
	// Cut, if not nil, is for an end that cannot wait for DrainTimeout: when it ends
	// while Serve lets open connections finish, or has ended by then, they are cut at
	// once. Their log lines have "cut" as the end, and context.Cause of Cut in the
	// error. It does not end Serve by itself: the context of Serve does. That context
	// here as well, or one that has ended from the start, leaves no time to drain at all.
	Cut context.Context
}

// Serve accepts connections from l and forwards them until ctx ends. Then it
// stops accepting, lets open connections finish for DrainTimeout or until Cut ends,
// cuts the rest, and returns nil. When it returns, every goroutine it started has
// ended, but for lookups: one that the Resolver has not given up although its context
// has ended, and one that a CachingResolver began, which is given 10 seconds. It owns
// l and closes it in any case.
//
// It returns an *Error without accepting anything if the configuration is wrong:
// [ReasonConfig], or [ReasonNotAllowed] for a target that is not on the
// allowlist. Later it fails only with [ReasonListener], when l was closed by
// somebody else or is broken for good; open connections are drained then, too.
// While there are MaxConns connections Serve does not accept. It learns within a
// second then that a listener from [Listen] or of package net, but for AF_VSOCK, was
// closed, and of the end of others when a connection has ended.
// Trouble with one connection, with the target, with names or with a shortage of
// descriptors is logged and ends nothing else.
//
// Connections whose type has no CloseWrite() error cannot be told that the other
// side has ended its stream; they are closed once the opposite direction has
// ended as well.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	if l == nil {
		return configError("the listener is nil")
	}
	s, err := p.newServer()
	if err != nil {
		_ = l.Close()
		return err
	}
	return s.serve(ctx, l)
}

// Check says what Serve would say about the configuration, and does nothing else:
// it neither listens nor resolves names. It calls AllowFrom, if that is set.
func (p *Proxy) Check() error {
	_, err := p.newServer()
	return err
}

func configError(format string, args ...any) error {
	return &Error{Op: "serve", Reason: ReasonConfig, Detail: fmt.Sprintf(format, args...)}
}

// newServer checks the configuration and fills in the defaults.
func (p *Proxy) newServer() (*server, error) {
	route, t, allow, err := p.checkRoute()
	if err != nil {
		return nil, err
	}
	s := &server{
		route:          route,
		target:         t,
		allow:          allow,
		resolver:       p.Resolver,
		family:         p.AddressFamily,
		onEnd:          p.OnEnd,
		cut:            p.Cut,
		maxConnsPerCID: p.MaxConnsPerCID,
		open:           make(map[*connection]bool),
		perCID:         make(map[uint32]int),
	}
	s.log = slog.New(slog.DiscardHandler)
	if p.Logger != nil {
		s.log = slog.New(contain.Handler{Handler: p.Logger.Handler()})
	}
	if s.cut == nil {
		s.cut = context.Background()
	}
	if s.resolver == nil {
		s.resolver = &CachingResolver{Logger: s.log}
	}
	if cache, ok := s.resolver.(*CachingResolver); ok {
		if _, _, err := cache.config(); err != nil {
			return nil, configError("Proxy.Resolver: %v", err)
		}
	}
	maxConns := p.MaxConns
	switch {
	case maxConns < 0:
		return nil, configError("Proxy.MaxConns is negative (%d); zero means the default of %d", p.MaxConns, DefaultMaxConns)
	case maxConns == 0:
		maxConns = DefaultMaxConns
	}
	if p.MaxConnsPerCID < 0 {
		return nil, configError("Proxy.MaxConnsPerCID is negative (%d); zero means no limit but MaxConns", p.MaxConnsPerCID)
	}
	if p.MaxLifetime < 0 {
		return nil, configError("Proxy.MaxLifetime is negative (%v); zero means no limit", p.MaxLifetime)
	}
	s.maxLifetime = p.MaxLifetime
	s.slots = make(chan struct{}, maxConns)
	s.lookups = make(chan struct{}, maxConns)
	for _, d := range []struct {
		name       string
		to         *time.Duration
		value, def time.Duration
	}{
		{"Proxy.HandshakeTimeout", &s.handshakeTimeout, p.HandshakeTimeout, DefaultHandshakeTimeout},
		{"Proxy.DialTimeout", &s.dialTimeout, p.DialTimeout, DefaultDialTimeout},
		{"Proxy.IdleTimeout", &s.idleTimeout, p.IdleTimeout, DefaultIdleTimeout},
		{"Proxy.DrainTimeout", &s.drainTimeout, p.DrainTimeout, DefaultDrainTimeout},
	} {
		if *d.to, err = durationOr(d.name, d.value, d.def); err != nil {
			return nil, configError("%v", err)
		}
	}
	return s, nil
}

// allowlist returns where the rules come from, and what they are now.
func (p *Proxy) allowlist() (from func() Allowlist, now Allowlist, err error) {
	fail := func(format string, args ...any) (func() Allowlist, Allowlist, error) {
		return nil, Allowlist{}, configError(format, args...)
	}
	if p.AllowFrom == nil {
		now = p.Allow
		if len(now.entries) == 0 {
			return fail("Proxy.Allow is empty; build it with ParseAllowlist")
		}
		return func() Allowlist { return now }, now, nil
	}
	if len(p.Allow.entries) > 0 {
		return fail("both Proxy.Allow and Proxy.AllowFrom are set; which rules are in force?")
	}
	if now, err = ask(p.AllowFrom); err != nil {
		return fail("Proxy.AllowFrom: %v", err)
	}
	if len(now.entries) == 0 {
		return fail("Proxy.AllowFrom returns an empty allowlist; open an AllowlistFile, or set Proxy.Allow")
	}
	return p.AllowFrom, now, nil
}

// ask makes a panic of from an error: Serve is to close its listener in any case.
func ask(from func() Allowlist) (a Allowlist, err error) {
	defer contain.Panic(&err)
	return from(), nil
}
