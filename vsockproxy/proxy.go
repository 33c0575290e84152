package vsockproxy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
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
	// Route says where connections go, such as To("kms.eu-west-1.amazonaws.com:443").
	// The zero Route is an error.
	Route Route
	// Allow is the set of permitted targets. An empty one is an error, unless
	// AllowFrom is set, and but for [ToEnclave], where one that is not empty is an
	// error.
	Allow Allowlist
	// AllowFrom, if not nil, takes the place of Allow. Setting both is an error. It is
	// called when Serve begins and once for every connection. The first list must not
	// be empty, and must have the target of a route [To]. Later lists refuse single
	// connections and never end open ones. It must be safe for concurrent use and
	// return at once. The Allowlist method of allowfile.File is meant for it.
	AllowFrom func() Allowlist
	// Logger gets one line per connection when it ends: peer, target, address,
	// bytes each way, duration, and why it ended. Of the payload it gets only the
	// target that the client named, also a malformed one. Nil means no logs. A panic
	// of its handler loses that line. A handler that blocks holds up its connection.
	Logger *slog.Logger
	// OnEnd, if not nil, is called once for every accepted connection, after its end
	// and before its log line. It is called by many goroutines at once. It should
	// return at once, since the connection counts against MaxConns meanwhile. A panic
	// of it changes nothing.
	OnEnd func(ConnEnd)
	// Resolver finds the addresses of the target's name, for every connection. Nil
	// means net.DefaultResolver with a cache of Serve's own, which uses an answer for
	// 30 seconds, and for up to an hour if no new one can be had.
	Resolver Resolver
	// AddressFamily restricts the addresses that are dialed to IPv4 or to IPv6,
	// or says which to begin with. The zero value takes both, as the resolver
	// orders them.
	AddressFamily AddressFamily

	// MaxConns bounds the connections open at once in one Serve; zero means
	// [DefaultMaxConns]. Further ones wait in the kernel's queue.
	//
	// A connection needs two file descriptors while it is forwarded, one for each
	// side, and up to nine for the moment of dialing a name with several addresses.
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
	// HandshakeTimeout bounds how long a client may take to name its target, on a
	// [Connect] or [ServerName] route; zero means 10 seconds.
	HandshakeTimeout time.Duration
	// DialTimeout bounds resolving and dialing together, over all addresses of
	// the target; zero means 10 seconds.
	DialTimeout time.Duration
	// IdleTimeout ends a connection on which no byte has moved in either direction for
	// so long; zero means 5 minutes. Once one direction has ended, it is at most one
	// minute.
	IdleTimeout time.Duration
	// MaxLifetime cuts a connection that has been forwarded for so long, whatever
	// moves on it; zero means no limit.
	MaxLifetime time.Duration
	// DrainTimeout is how long open connections may go on after the context of
	// Serve has ended; zero means [DefaultDrainTimeout].
	DrainTimeout time.Duration
	// Cut ends draining early: when it is closed, remaining connections are closed and
	// logged as cut. It does not stop Serve. The Done channel of Serve's own context
	// leaves no time to drain. Nil never cuts.
	Cut <-chan struct{}
}

// Serve accepts connections from l and forwards them until ctx ends. Then it stops
// accepting, lets open connections finish for DrainTimeout or until Cut is closed, cuts
// the rest, and returns nil. It owns l and closes it in any case.
//
// A wrong configuration is an [*Error] before anything is accepted:
// [ReasonInvalidOptions], or [ReasonNotAllowed] for a target that is not on the
// allowlist. Later Serve fails only with [ReasonListener], when somebody else closed l
// or it is broken for good. Open connections are drained then, too. Trouble with one
// connection, its target, names or a shortage of descriptors is logged and ends nothing
// else.
//
// When Serve returns, every goroutine that it started has ended, except lookups: those
// that the Resolver does not give up, and those for the cache, which end within 10
// seconds. At MaxConns connections Serve does not accept, and notices within a second
// that l was closed. An AF_VSOCK listener, or one that is neither from [Listen] nor of
// package net, is noticed when a connection ends.
//
// A connection without CloseWrite() error cannot be told that the other side has ended
// its stream. It is closed once the opposite direction has ended as well.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	if l == nil {
		return optionsError("listener", "it is nil")
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

func optionsError(field, format string, args ...any) error {
	return &Error{Op: "Serve", Reason: ReasonInvalidOptions, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// newServer checks the configuration and fills in the defaults.
func (p *Proxy) newServer() (*server, error) {
	filled, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	if p.Route.way == nil {
		return nil, optionsError("Proxy.Route", `it is not set; set To("host:port") for one target`)
	}
	way, err := p.Route.way.check(filled)
	if err != nil {
		return nil, err
	}
	return &server{
		way:          way,
		log:          filled.Logger,
		onEnd:        p.OnEnd,
		cut:          p.Cut,
		idleTimeout:  filled.IdleTimeout,
		maxLifetime:  p.MaxLifetime,
		drainTimeout: filled.DrainTimeout,
		admission:    newAdmission(filled.MaxConns, p.MaxConnsPerCID, filled.Logger),
		open:         make(map[*connection]bool),
	}, nil
}

// withDefaults returns a copy of p in which no field that has a default is zero, or
// what is wrong with one.
func (p *Proxy) withDefaults() (*Proxy, error) {
	filled := *p
	filled.Logger = slog.New(slog.DiscardHandler)
	if p.Logger != nil {
		filled.Logger = slog.New(contain.Handler{Handler: p.Logger.Handler()})
	}
	if p.Resolver == nil {
		filled.Resolver = &cachingResolver{Logger: filled.Logger}
	}
	if cache, ok := filled.Resolver.(*cachingResolver); ok {
		if _, _, err := cache.config(); err != nil {
			return nil, optionsError("Proxy.Resolver", "%v", err)
		}
	}
	if err := p.AddressFamily.check(); err != nil {
		return nil, optionsError("Proxy.AddressFamily", "%v", err)
	}
	switch {
	case p.MaxConns < 0:
		return nil, optionsError("Proxy.MaxConns", "it is negative (%d); zero means the default of %d", p.MaxConns, DefaultMaxConns)
	case p.MaxConnsPerCID < 0:
		return nil, optionsError("Proxy.MaxConnsPerCID", "it is negative (%d); zero means no limit but MaxConns", p.MaxConnsPerCID)
	case p.MaxLifetime < 0:
		return nil, optionsError("Proxy.MaxLifetime", "it is negative (%v); zero means no limit", p.MaxLifetime)
	case p.MaxConns == 0:
		filled.MaxConns = DefaultMaxConns
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"Proxy.HandshakeTimeout", &filled.HandshakeTimeout, defaultHandshakeTimeout},
		{"Proxy.DialTimeout", &filled.DialTimeout, defaultDialTimeout},
		{"Proxy.IdleTimeout", &filled.IdleTimeout, defaultIdleTimeout},
		{"Proxy.DrainTimeout", &filled.DrainTimeout, DefaultDrainTimeout},
	} {
		if *d.value < 0 {
			return nil, optionsError(d.name, "it is negative (%v); zero means the default of %v", *d.value, d.def)
		}
		*d.value = cmp.Or(*d.value, d.def)
	}
	return &filled, nil
}

// targets returns a dialer of targets by the proxy's rules, and the rules as they are
// now.
func (p *Proxy) targets() (*targetDialer, Allowlist, error) {
	d := &targetDialer{
		allow:    p.AllowFrom,
		resolver: p.Resolver,
		family:   p.AddressFamily,
		timeout:  p.DialTimeout,
		lookups:  make(chan struct{}, p.MaxConns),
	}
	if p.AllowFrom == nil {
		if len(p.Allow.list) == 0 {
			return nil, Allowlist{}, optionsError("Proxy.Allow", "it is empty; build it with ParseAllowlist")
		}
		allow := p.Allow
		d.allow = func() Allowlist { return allow }
		return d, allow, nil
	}
	if len(p.Allow.list) > 0 {
		return nil, Allowlist{}, optionsError("Proxy.AllowFrom", "both Proxy.Allow and Proxy.AllowFrom are set; which rules are in force?")
	}
	now, err := ask(p.AllowFrom)
	switch {
	case err != nil:
		return nil, Allowlist{}, optionsError("Proxy.AllowFrom", "%v", err)
	case len(now.list) == 0:
		return nil, Allowlist{}, optionsError("Proxy.AllowFrom", "it returns an empty allowlist; open an allowlist file, or set Proxy.Allow")
	}
	return d, now, nil
}

// checkNoAllowlist refuses an allowlist where w has no use for it.
func (p *Proxy) checkNoAllowlist(w way) error {
	if len(p.Allow.list) > 0 || p.AllowFrom != nil {
		return optionsError("Proxy.Allow", "Proxy.Allow or Proxy.AllowFrom is set, and the route %v has no use for it: it does not restrict clients", w)
	}
	return nil
}

// ask makes a panic of from an error: Serve is to close its listener in any case.
func ask(from func() Allowlist) (a Allowlist, err error) {
	defer contain.Panic(&err)
	return from(), nil
}
