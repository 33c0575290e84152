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
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// upstream is the resolver behind a cache. It counts what it is asked, and answers
// by a function.
type upstream struct {
	mu     sync.Mutex
	asked  int
	answer func(ctx context.Context, host string) ([]netip.Addr, error)
}

func (u *upstream) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	u.mu.Lock()
	u.asked++
	answer := u.answer
	u.mu.Unlock()
	return answer(ctx, host)
}

func (u *upstream) now(answer func(ctx context.Context, host string) ([]netip.Addr, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.asked
}

func answers(addr string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) { return parseAddrs(addr), nil }
}

func fails(err error) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) { return nil, err }
}

// hangs is a DNS server that swallows questions.
func hangs(ctx context.Context, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

var (
	errServfail = &net.DNSError{Err: "server misbehaving", Name: "a.example.", IsTemporary: true}
	errNoHost   = &net.DNSError{Err: "no such host", Name: "a.example.", IsNotFound: true}
)

// cacheTest is a cache in a bubble, whose clock moves when everybody waits.
type cacheTest struct {
	*testing.T
	up    *upstream
	cache *cachingResolver
}

func testCache(t *testing.T, test func(c cacheTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		up := &upstream{answer: answers("1.0.0.1")}
		test(cacheTest{t, up, &cachingResolver{Resolver: up}})
		time.Sleep(time.Minute) // for lookups that nobody waits for
	})
}

// want looks a name up, and checks the answer (an address, or an error), how long it
// took and how often the resolver behind was asked so far. Work in the background
// is over when it returns.
func (c cacheTest) want(answer any, took time.Duration, asked int) {
	c.Helper()
	began := time.Now()
	addrs, err := c.cache.LookupNetIP(c.Context(), "ip", "a.example.")
	if d := time.Since(began); d != took {
		c.Errorf("took %v, want %v", d, took)
	}
	switch want := answer.(type) {
	case string:
		if err != nil || len(addrs) != 1 || addrs[0] != netip.MustParseAddr(want) {
			c.Errorf("%v, %v; want %s", addrs, err, want)
		}
	case error:
		if !errors.Is(err, want) || addrs != nil {
			c.Errorf("%v, %v; want %v", addrs, err, want)
		}
	}
	synctest.Wait()
	if n := c.up.count(); n != asked {
		c.Errorf("the resolver was asked %d times, want %d", n, asked)
	}
}

func TestCacheRemembers(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.want("1.0.0.1", 0, 1)
		c.up.now(answers("1.0.0.2"))
		time.Sleep(defaultNameTTL - 1)
		c.want("1.0.0.1", 0, 1)
		time.Sleep(time.Nanosecond)
		c.want("1.0.0.1", 0, 2) // asked for anew meanwhile
		c.want("1.0.0.2", 0, 2)
		// Too old to be given unasked.
		c.up.now(answers("1.0.0.3"))
		time.Sleep(2 * defaultNameTTL)
		c.want("1.0.0.3", 0, 3)
	})
}

// Nobody waits for a server that has become slow.
func TestCacheRefreshesInTheBackground(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.want("1.0.0.1", 0, 1)
		c.up.now(func(context.Context, string) ([]netip.Addr, error) {
			time.Sleep(5 * time.Second)
			return parseAddrs("1.0.0.2"), nil
		})
		time.Sleep(defaultNameTTL)
		for range 3 {
			c.want("1.0.0.1", 0, 2)
		}
		time.Sleep(6 * time.Second)
		c.want("1.0.0.2", 0, 2)
	})
}

func TestCacheGivesStaleAnswers(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.want("1.0.0.1", 0, 1)
		c.up.now(fails(errServfail))
		time.Sleep(10 * time.Minute)
		c.want("1.0.0.1", 0, 2) // waits for the failure
		c.want("1.0.0.1", 0, 2) // which is not repeated at once
		time.Sleep(retryNames)
		c.want("1.0.0.1", 0, 3)
		time.Sleep(defaultNameStale - 10*time.Minute - retryNames - 1)
		c.want("1.0.0.1", 0, 4)
		time.Sleep(retryNames)
		c.want(errServfail, 0, 5) // older than Stale
		c.want(errServfail, 0, 5)
		c.up.now(answers("1.0.0.2"))
		time.Sleep(retryNames)
		c.want("1.0.0.2", 0, 6)
	})
}

func TestCacheWhileTheServerIsSilent(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.want("1.0.0.1", 0, 1)
		c.up.now(hangs)
		time.Sleep(10 * time.Minute)
		c.want("1.0.0.1", staleDelay, 2)
		time.Sleep(lookupTimeout - staleDelay) // the lookup is given up
		c.want("1.0.0.1", 0, 2)
		time.Sleep(retryNames)
		for range 3 { // the next one is not waited for
			c.want("1.0.0.1", 0, 3)
		}
		time.Sleep(lookupTimeout)
		c.up.now(answers("1.0.0.2"))
		time.Sleep(retryNames)
		c.want("1.0.0.1", 0, 4)
		c.want("1.0.0.2", 0, 4)
	})
}

// Who has no old answer waits as long as it wants, and no longer.
func TestCacheWithoutAnAnswer(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.up.now(hangs)
		ctx, cancel := context.WithTimeout(c.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := c.cache.LookupNetIP(ctx, "ip", "a.example."); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			c.Errorf("after %v: %v", time.Since(began), err)
		}
		// The lookup goes on for others.
		c.want(context.DeadlineExceeded, lookupTimeout-time.Second, 1)
	})
}

func TestCacheOfNoSuchName(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.want("1.0.0.1", 0, 1)
		c.up.now(fails(errNoHost))
		time.Sleep(defaultNameTTL)
		c.want("1.0.0.1", 0, 2) // asked for anew meanwhile
		c.want(errNoHost, 0, 2) // the old answer is forgotten
		time.Sleep(retryNames)
		c.want(errNoHost, 0, 3)
		c.up.now(func(context.Context, string) ([]netip.Addr, error) { return nil, nil })
		time.Sleep(retryNames)
		var dns *net.DNSError
		if _, err := c.cache.LookupNetIP(c.Context(), "ip", "a.example."); !errors.As(err, &dns) || !dns.IsNotFound {
			c.Errorf("no addresses: %v", err)
		}
		c.up.now(answers("1.0.0.2"))
		time.Sleep(retryNames)
		c.want("1.0.0.2", 0, 5)
	})
}

// The log tells when old answers begin to be used, and when that is over.
func TestCacheLogs(t *testing.T) {
	testCache(t, func(c cacheTest) {
		var lines []string
		c.cache.Logger = slog.New(notingHandler{slog.DiscardHandler, &lines})
		c.up.now(fails(errServfail))
		c.want(errServfail, 0, 1) // there is no old answer
		c.up.now(answers("1.0.0.1"))
		time.Sleep(retryNames)
		c.want("1.0.0.1", 0, 2)
		asked := 2
		for _, over := range []func(context.Context, string) ([]netip.Addr, error){answers("1.0.0.1"), fails(errNoHost)} {
			c.up.now(fails(errServfail))
			time.Sleep(10 * time.Minute)
			for range 3 {
				asked++
				c.want("1.0.0.1", 0, asked)
				time.Sleep(retryNames)
			}
			c.up.now(over)
			asked++
			c.want("1.0.0.1", 0, asked)
		}
		want := []string{"WARN cannot resolve a name, using its last addresses", "INFO a name can be resolved again"}
		if want = append(want, want...); !slices.Equal(lines, want) {
			c.Errorf("lines %q, want %q", lines, want)
		}
	})
}

// notingHandler notes level and message, and then panics.
type notingHandler struct {
	slog.Handler
	lines *[]string
}

func (h notingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h notingHandler) Handle(_ context.Context, r slog.Record) error {
	*h.lines = append(*h.lines, r.Level.String()+" "+r.Message)
	panic("handle")
}

// Many that want a name at once share a lookup, and each gets its own slice.
func TestCacheSharesLookups(t *testing.T) {
	testCache(t, func(c cacheTest) {
		release := make(chan struct{})
		c.up.now(func(context.Context, string) ([]netip.Addr, error) {
			<-release
			return parseAddrs("1.0.0.1"), nil
		})
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				addrs, err := c.cache.LookupNetIP(c.Context(), "ip", "a.example.")
				if err != nil || addrs[0] != netip.MustParseAddr("1.0.0.1") {
					c.Errorf("%v, %v", addrs, err)
					return
				}
				addrs[0] = netip.Addr{}
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		c.want("1.0.0.1", 0, 1)
	})
}

// A resolver that ignores its context blocks no name for ever, and not more lookups
// hang than there may be names.
func TestCacheOverAHungResolver(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.cache.MaxNames = 2
		release := make(chan struct{})
		c.up.now(func(context.Context, string) ([]netip.Addr, error) {
			<-release
			return nil, errServfail
		})
		c.want(context.DeadlineExceeded, lookupTimeout, 1)
		time.Sleep(retryNames)
		c.want(context.DeadlineExceeded, lookupTimeout, 2)
		time.Sleep(retryNames)
		c.want(errTooManyLookups, 0, 2)
		close(release)
		synctest.Wait()
		c.up.now(answers("1.0.0.1"))
		time.Sleep(retryNames)
		c.want("1.0.0.1", 0, 3)
	})
}

func TestCachePanic(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.up.now(func(context.Context, string) ([]netip.Addr, error) { panic("resolver") })
		var p *contain.PanicError
		if _, err := c.cache.LookupNetIP(c.Context(), "ip", "a.example."); !errors.As(err, &p) {
			c.Errorf("%v", err)
		}
		c.up.now(answers("1.0.0.1"))
		time.Sleep(retryNames)
		c.want("1.0.0.1", 0, 2)
	})
}

// The number of names is bounded, and who is used stays.
func TestCacheForgets(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.cache.MaxNames = 3
		c.want("1.0.0.1", 0, 1)
		for i := range 10 {
			time.Sleep(time.Nanosecond)
			if _, err := c.cache.LookupNetIP(c.Context(), "ip", fmt.Sprintf("%d.example.", i)); err != nil {
				t.Error(err)
			}
			c.want("1.0.0.1", 0, i+2)
			if n := len(c.cache.names); n > 3 {
				t.Fatalf("%d names", n)
			}
		}
		// Networks are told apart.
		if _, err := c.cache.LookupNetIP(c.Context(), "ip4", "a.example."); err != nil {
			t.Error(err)
		}
		c.want("1.0.0.1", 0, 12)
	})
}

func TestCacheBoundsAnswers(t *testing.T) {
	testCache(t, func(c cacheTest) {
		c.up.now(func(context.Context, string) ([]netip.Addr, error) {
			return make([]netip.Addr, 10*maxAnswer), nil
		})
		addrs, err := c.cache.LookupNetIP(c.Context(), "ip", "a.example.")
		if err != nil || len(addrs) != maxAnswer {
			c.Errorf("%d addresses, %v", len(addrs), err)
		}
	})
}

func TestCacheConfiguration(t *testing.T) {
	for _, bad := range []*cachingResolver{{TTL: -1}, {Stale: -1}, {MaxNames: -1}} {
		_, err := bad.LookupNetIP(t.Context(), "ip", "a.example.")
		wantReason(t, err, ReasonInvalidOptions)
		// A proxy says so before it accepts.
		_, err = (&Proxy{Route: To("a.example:443"), Allow: mustAllow(t, "a.example:443"), Resolver: bad}).newServer()
		wantReason(t, err, ReasonInvalidOptions)
	}
	testCache(t, func(c cacheTest) {
		c.cache.TTL, c.cache.Stale = time.Hour, time.Minute // shorter than twice TTL
		c.want("1.0.0.1", 0, 1)
		c.up.now(fails(errServfail))
		time.Sleep(2*time.Hour - 1)
		c.want("1.0.0.1", 0, 2)
		time.Sleep(retryNames)
		c.want(errServfail, 0, 3)
	})
}
