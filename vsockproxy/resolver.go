package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// cachingResolver is a [Resolver] that remembers what another one said, so that
// most connections do not wait for names, and a DNS server that fails does not
// stop those to names it has given before.
//
// An answer is used for TTL, whatever the time to live of the DNS records, of which
// Go's resolver does not tell. Used within another TTL, it is given at once, and
// asked for anew meanwhile. Older than that, it is only given if a new one fails
// or takes longer than 1.8 seconds (RFC 8767), until it is Stale old. While lookups
// of the name keep failing, nobody waits for them. That there is no such name is an
// answer too, and forgets the older ones at once. It is used for a second, and a
// lookup that failed is not repeated for as long.
//
// Of the lookups that are wanted for a name at one time there is one. It is given
// up after 10 seconds.
//
// The zero cachingResolver works, over net.DefaultResolver. It may be used by
// several goroutines and by several proxies at once, as long as nobody changes its
// fields; it must not be copied after its first use. It starts no goroutine but for
// lookups.
type cachingResolver struct {
	// Resolver is who is asked. Nil means net.DefaultResolver.
	Resolver Resolver
	// TTL is how long an answer is used unasked; zero means defaultNameTTL.
	TTL time.Duration
	// Stale is how old an answer may get while no new one is to be had; zero
	// means defaultNameStale. What is less than twice TTL means twice TTL.
	Stale time.Duration
	// MaxNames bounds the names that are remembered, and the lookups that run;
	// zero means defaultMaxNames. Names without an answer are forgotten first,
	// and then the name that was not used for longest. A client that may use a
	// pattern over a zone in which every name exists can so fill the cache and push
	// out the names of others, which are then asked for anew.
	MaxNames int
	// Logger is told when old answers begin to be used since a lookup failed, at
	// level Warn, and when that is over, at level Info: once each for a name. Nil
	// means no logs.
	Logger *slog.Logger

	mu      sync.Mutex
	names   map[question]*cachedName
	running int // lookups that have not returned
}

type question struct{ network, host string }

// cachedName is what is known of a name. It is guarded by cachingResolver.mu.
type cachedName struct {
	addrs    []netip.Addr // the last good answer, or nil
	answered time.Time    // when it came
	err      error        // how the last lookup failed, or nil
	failed   time.Time    // when it did
	old      bool         // addrs are used since a lookup failed
	used     time.Time
	lookup   *lookup // the one that runs, or nil
}

// lookup is one question to the other resolver. Its fields are for whoever has
// seen done closed.
type lookup struct {
	done  chan struct{}
	addrs []netip.Addr
	err   error
}

// errTooManyLookups means that the resolver hangs.
var errTooManyLookups = errors.New("too many lookups have not come back")

// LookupNetIP returns the addresses of host, which is given to the other resolver
// as it is, as is network. Errors are those of the other resolver. The context
// bounds the waiting of the caller only.
func (r *cachingResolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ttl, stale, err := r.config()
	if err != nil {
		return nil, &Error{Op: "LookupNetIP", Reason: ReasonInvalidOptions, Detail: err.Error()}
	}
	addrs, l, err := r.recall(question{network, host}, ttl, stale)
	if l == nil {
		return addrs, err
	}
	var late <-chan time.Time
	if addrs != nil {
		timer := time.NewTimer(staleDelay)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-l.done:
		if l.err != nil && addrs != nil && !isNotFound(l.err) {
			return addrs, nil
		}
		return slices.Clone(l.addrs), l.err
	case <-late:
		return addrs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// config checks the fields and fills in the defaults.
func (r *cachingResolver) config() (ttl, stale time.Duration, err error) {
	if ttl, err = durationOr("cachingResolver.TTL", r.TTL, defaultNameTTL); err != nil {
		return 0, 0, err
	}
	if stale, err = durationOr("cachingResolver.Stale", r.Stale, defaultNameStale); err != nil {
		return 0, 0, err
	}
	if r.MaxNames < 0 {
		return 0, 0, fmt.Errorf("cachingResolver.MaxNames is negative (%d); zero means the default of %d", r.MaxNames, defaultMaxNames)
	}
	return ttl, stale, nil
}

// recall returns an answer to give at once if l is nil; otherwise a lookup to wait
// for, and what to answer if it fails, if there is something.
func (r *cachingResolver) recall(q question, ttl, stale time.Duration) (addrs []netip.Addr, l *lookup, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	n := r.name(q)
	n.used = now
	age := now.Sub(n.answered)
	if n.addrs != nil && age/2 >= ttl && age >= stale {
		n.addrs = nil
	}
	if n.addrs != nil && age < ttl {
		return slices.Clone(n.addrs), nil, nil
	}
	if n.lookup == nil && (n.err == nil || now.Sub(n.failed) >= retryNames) {
		r.begin(q, n)
	}
	// The lookup that runs will fail as the last one did, as far as one can tell.
	failing := n.err != nil && now.Sub(n.failed) < retryNames+lookupTimeout
	switch {
	case n.lookup == nil && n.addrs == nil:
		return nil, nil, n.err
	case n.lookup == nil, n.addrs != nil && (age/2 < ttl || failing):
		return slices.Clone(n.addrs), nil, nil
	}
	return slices.Clone(n.addrs), n.lookup, nil
}

// name returns what is known of q, and makes room for it if that is nothing.
func (r *cachingResolver) name(q question) *cachedName {
	if n := r.names[q]; n != nil {
		return n
	}
	if r.names == nil {
		r.names = make(map[question]*cachedName)
	}
	if len(r.names) >= r.maxNames() {
		// Names without addresses go first: where a pattern is on the allowlist, a
		// client can think up any number of those.
		var oldest question
		for q, n := range r.names {
			o := r.names[oldest]
			if o == nil || (n.addrs == nil) != (o.addrs == nil) && n.addrs == nil || (n.addrs == nil) == (o.addrs == nil) && n.used.Before(o.used) {
				oldest = q
			}
		}
		delete(r.names, oldest)
	}
	n := new(cachedName)
	r.names[q] = n
	return n
}

func (r *cachingResolver) maxNames() int {
	if r.MaxNames == 0 {
		return defaultMaxNames
	}
	return r.MaxNames
}

// begin starts a lookup for n, or notes that none can be started.
func (r *cachingResolver) begin(q question, n *cachedName) {
	if r.running >= r.maxNames() {
		n.err, n.failed = fmt.Errorf("%w (%d)", errTooManyLookups, r.running), time.Now()
		return
	}
	r.running++
	l := &lookup{done: make(chan struct{})}
	n.lookup = l
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	// The other resolver may ignore its context; then the lookup ends without it.
	stop := context.AfterFunc(ctx, func() { r.end(q, n, l, nil, fmt.Errorf("the resolver has not answered: %w", ctx.Err())) })
	go func() {
		addrs, err := r.ask(ctx, q)
		r.end(q, n, l, addrs, err)
		stop()
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running--
	}()
}

// ask asks the other resolver. No addresses and no error is how some say that the
// name has none.
func (r *cachingResolver) ask(ctx context.Context, q question) (addrs []netip.Addr, err error) {
	defer contain.Panic(&err)
	resolver := r.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err = resolver.LookupNetIP(ctx, q.network, q.host)
	if err == nil && len(addrs) == 0 {
		err = &net.DNSError{Err: "the name has no addresses", Name: q.host, IsNotFound: true}
	}
	return addrs, err
}

// end notes what came of l, unless that is noted already.
func (r *cachingResolver) end(q question, n *cachedName, l *lookup, addrs []netip.Addr, err error) {
	began, over := r.note(n, l, addrs, err)
	if r.Logger == nil {
		return
	}
	log := slog.New(contain.Handler{Handler: r.Logger.Handler()})
	if began {
		log.Warn("cannot resolve a name, using its last addresses", "name", q.host, "error", err)
	}
	if over {
		log.Info("a name can be resolved again", "name", q.host)
	}
}

// note is end without the logs. It reports whether the use of old answers began or
// is over.
func (r *cachingResolver) note(n *cachedName, l *lookup, addrs []netip.Addr, err error) (began, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.lookup != l {
		return false, false
	}
	n.lookup = nil
	began = n.addrs != nil && !n.old && err != nil && !isNotFound(err)
	over = n.old && (err == nil || isNotFound(err))
	n.old = n.old && !over || began
	now := time.Now()
	if err == nil {
		n.addrs, n.answered, n.err = slices.Clone(addrs[:min(len(addrs), maxAnswer)]), now, nil
		l.addrs = n.addrs
	} else {
		n.err, n.failed = err, now
		l.err = err
		if isNotFound(err) {
			n.addrs = nil
		}
	}
	close(l.done)
	return began, over
}

// isNotFound tells the answer that a name does not exist, or has no addresses, from
// a failure to get an answer.
func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
