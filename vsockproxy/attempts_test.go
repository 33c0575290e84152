package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

func parseAddrs(text string) []netip.Addr {
	var addrs []netip.Addr
	for _, field := range strings.Fields(text) {
		addrs = append(addrs, netip.MustParseAddr(field))
	}
	return addrs
}

func TestInterleave(t *testing.T) {
	for _, test := range []struct {
		in     string
		family AddressFamily
		want   string
	}{
		{"1.0.0.1", AnyFamily, "1.0.0.1"},
		{"1.0.0.1 1.0.0.2", AnyFamily, "1.0.0.1 1.0.0.2"},
		{"2600::1 2600::2 1.0.0.1 1.0.0.2", AnyFamily, "2600::1 1.0.0.1 2600::2 1.0.0.2"},
		{"1.0.0.1 1.0.0.2 1.0.0.3 2600::1", AnyFamily, "1.0.0.1 2600::1 1.0.0.2 1.0.0.3"},
		{"2600::1 1.0.0.1 1.0.0.2 1.0.0.3", AnyFamily, "2600::1 1.0.0.1 1.0.0.2 1.0.0.3"},

		{"2600::1 2600::2 1.0.0.1 1.0.0.2", PreferIPv4, "1.0.0.1 2600::1 1.0.0.2 2600::2"},
		{"2600::1 2600::2 1.0.0.1 1.0.0.2", PreferIPv6, "2600::1 1.0.0.1 2600::2 1.0.0.2"},
		{"1.0.0.1 1.0.0.2 2600::1", PreferIPv6, "2600::1 1.0.0.1 1.0.0.2"},
		// A preference excludes nothing.
		{"2600::1 2600::2", PreferIPv4, "2600::1 2600::2"},
		{"1.0.0.1", PreferIPv6, "1.0.0.1"},
	} {
		if got := interleave(parseAddrs(test.in), test.family); !slices.Equal(got, parseAddrs(test.want)) {
			t.Errorf("%s, %v: becomes %v, want %s", test.in, test.family, got, test.want)
		}
	}
}

// attempt is what dialling an address does: it answers after a while, with a
// connection or an error. The zero attempt answers never; a deaf one does not heed
// its context.
type attempt struct {
	after time.Duration
	err   error
	deaf  bool
}

// attemptConn only knows whether it was closed.
type attemptConn struct {
	net.Conn
	name   string
	closed int
}

func (c *attemptConn) Close() error {
	c.closed++
	return nil
}

// In a bubble of synctest time passes only when everybody waits, so the times are
// exact: they count how long something was waited for.
func TestDialFirst(t *testing.T) {
	const ms = time.Millisecond
	refused := errors.New("refused")
	for _, test := range []struct {
		name     string
		attempts []attempt
		limit    time.Duration // of the context
		wins     int           // index, or -1
		at       time.Duration
		begun    []time.Duration
	}{
		{"first answers", []attempt{{after: 100 * ms}, {after: ms}}, time.Hour, 0, 100 * ms, []time.Duration{0}},
		{"black hole first", []attempt{{}, {after: 10 * ms}}, time.Hour, 1, 260 * ms, []time.Duration{0, 250 * ms}},
		{"two black holes", []attempt{{}, {}, {after: 10 * ms}}, time.Hour, 2, 510 * ms, []time.Duration{0, 250 * ms, 500 * ms}},
		{"slow first still wins", []attempt{{after: 300 * ms}, {after: 100 * ms}}, time.Hour, 0, 300 * ms, []time.Duration{0, 250 * ms}},
		{"refused at once", []attempt{{after: ms, err: refused}, {after: ms}}, time.Hour, 1, 2 * ms, []time.Duration{0, ms}},
		{"the delay begins anew", []attempt{{after: 100 * ms, err: refused}, {}, {after: ms}}, time.Hour, 2, 351 * ms, []time.Duration{0, 100 * ms, 350 * ms}},
		{"all refused", []attempt{{after: ms, err: refused}, {after: ms, err: refused}}, time.Hour, -1, 2 * ms, []time.Duration{0, ms}},
		{"one refused beside a black hole", []attempt{{}, {after: ms, err: refused}}, 400 * ms, -1, 400 * ms, []time.Duration{0, 250 * ms}},
		{"all black holes", []attempt{{}, {}}, 2 * time.Second, -1, 2 * time.Second, []time.Duration{0, 250 * ms}},
		{"no time for the second", []attempt{{}, {}}, 100 * ms, -1, 100 * ms, []time.Duration{0}},
		// An attempt that connects although it was cut must be closed.
		{"loser connects late", []attempt{{after: 300 * ms, deaf: true}, {after: 10 * ms}}, time.Hour, 1, 300 * ms, []time.Duration{0, 250 * ms}},
		{"two connect at once", []attempt{{after: 260 * ms}, {after: 10 * ms}}, time.Hour, 1, 260 * ms, []time.Duration{0, 250 * ms}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), test.limit)
				defer cancel()
				var addresses []netip.AddrPort
				for i := range test.attempts {
					addresses = append(addresses, netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 0, 0, byte(i)}), 443))
				}
				begun := make(chan time.Duration, len(addresses))
				conns := make(chan *attemptConn, len(addresses))
				conn, address, err := dialFirst(ctx, addresses, func(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
					begun <- time.Since(began)
					does := test.attempts[slices.Index(addresses, address)]
					var answer <-chan time.Time
					if does.after > 0 {
						answer = time.After(does.after)
					}
					over := ctx.Done()
					if does.deaf {
						over = nil
					}
					select {
					case <-answer:
					case <-over:
						return nil, ctx.Err()
					}
					if does.err != nil {
						return nil, does.err
					}
					c := &attemptConn{name: address.String()}
					conns <- c
					return c, nil
				})
				if at := time.Since(began); at != test.at {
					t.Errorf("returned after %v, want %v", at, test.at)
				}
				close(begun)
				close(conns)
				var starts []time.Duration
				for b := range begun {
					starts = append(starts, b)
				}
				if !slices.Equal(starts, test.begun) {
					t.Errorf("attempts begin at %v, want %v", starts, test.begun)
				}
				// Which of two that answer at once is taken is open.
				open := 0
				for c := range conns {
					switch {
					case net.Conn(c) == conn && c.closed == 0 && c.name == address.String():
						open++
					case c.closed != 1:
						t.Errorf("%s was closed %d times", c.name, c.closed)
					}
				}
				if test.wins < 0 {
					if err == nil || open != 0 {
						t.Errorf("%v, %v beside an error", open, err)
					}
					return
				}
				if err != nil || open != 1 {
					t.Fatalf("%d connections are open: %v", open, err)
				}
				if address != addresses[test.wins] && test.name != "two connect at once" {
					t.Errorf("%v wins, want %v", address, addresses[test.wins])
				}
			})
		})
	}
}

// All failures are told, and a panic is one.
func TestDialFirstErrors(t *testing.T) {
	addresses := []netip.AddrPort{netip.MustParseAddrPort("1.0.0.1:443"), netip.MustParseAddrPort("1.0.0.2:443")}
	_, _, err := dialFirst(t.Context(), addresses, func(_ context.Context, address netip.AddrPort) (net.Conn, error) {
		return nil, fmt.Errorf("no %v", address)
	})
	if err == nil || err.Error() != "no 1.0.0.1:443; no 1.0.0.2:443" {
		t.Errorf("%v", err)
	}
	var p *contain.PanicError
	if _, _, err = dialFirst(t.Context(), addresses, func(context.Context, netip.AddrPort) (net.Conn, error) { panic("dial") }); !errors.As(err, &p) {
		t.Errorf("%v", err)
	}
}

func TestAddressFamilies(t *testing.T) {
	dns := fakeDNS{
		"both.example": {"2600::1", "2600::2", "::ffff:1.0.0.1", "1.0.0.2"},
		"four.example": {"1.0.0.1"},
		"six.example":  {"2600::1"},
		"bad6.example": {"fd00:ec2::254", "1.0.0.1"},
	}
	for _, test := range []struct {
		name   string
		family AddressFamily
		want   string // or a Reason
	}{
		{"both.example", AnyFamily, "2600::1 1.0.0.1 2600::2 1.0.0.2"},
		{"both.example", IPv4Only, "1.0.0.1 1.0.0.2"},
		{"both.example", IPv6Only, "2600::1 2600::2"},
		{"four.example", IPv6Only, string(ReasonResolve)},
		{"six.example", IPv4Only, string(ReasonResolve)},
		{"bad6.example", IPv4Only, "1.0.0.1"},
		{"both.example", PreferIPv4, "1.0.0.1 2600::1 1.0.0.2 2600::2"},
		{"both.example", PreferIPv6, "2600::1 1.0.0.1 2600::2 1.0.0.2"},
		{"four.example", PreferIPv6, "1.0.0.1"},
		{"bad6.example", PreferIPv6, "1.0.0.1"},
		{"bad6.example", IPv6Only, string(ReasonForbiddenAddress)},
	} {
		w := toTargetOf(t, &Proxy{Route: To(test.name + ":443"), Allow: mustAllow(t, test.name+":443", "1.0.0.1:443", "[2600::1]:443"), Resolver: dns, AddressFamily: test.family})
		got, err := w.targets.resolve(t.Context(), w.target, rules.Source{})
		if err != nil {
			if e := wantReason(t, err, Reason(test.want)); e.Reason == ReasonResolve && !strings.Contains(err.Error(), test.family.String()) {
				t.Errorf("%s, %v: %v", test.name, test.family, err)
			}
			continue
		}
		if !slices.Equal(got, parseAddrs(test.want)) {
			t.Errorf("%s, %v: %v, want %s", test.name, test.family, got, test.want)
		}
	}

	// Targets that are addresses.
	for _, test := range []struct {
		target string
		family AddressFamily
		ok     bool
	}{
		{"1.0.0.1:443", AnyFamily, true},
		{"1.0.0.1:443", IPv4Only, true},
		{"1.0.0.1:443", IPv6Only, false},
		{"[2600::1]:443", IPv6Only, true},
		{"[2600::1]:443", IPv4Only, false},
		{"1.0.0.1:443", PreferIPv6, true},
		{"[2600::1]:443", PreferIPv4, true},
		{"1.0.0.1:443", AddressFamily(5), false},
	} {
		_, err := (&Proxy{Route: To(test.target), Allow: mustAllow(t, test.target), AddressFamily: test.family}).newServer()
		if (err == nil) != test.ok {
			t.Errorf("%s, %v: %v", test.target, test.family, err)
		}
		if err != nil {
			wantReason(t, err, ReasonInvalidOptions)
		}
	}
}

// Many addresses are not all dialled, and forbidden ones do not use up the number.
func TestManyAddresses(t *testing.T) {
	var answer []string
	for i := range maxAnswer - maxAddresses {
		answer = append(answer, fmt.Sprintf("10.0.0.%d", i))
	}
	for i := range 100 {
		answer = append(answer, fmt.Sprintf("1.0.0.%d", i))
	}
	w := toTargetOf(t, &Proxy{Route: To("many.example:443"), Allow: mustAllow(t, "many.example:443"), Resolver: fakeDNS{"many.example": answer}})
	got, err := w.targets.resolve(t.Context(), w.target, rules.Source{})
	if err != nil || len(got) != maxAddresses || got[0] != netip.MustParseAddr("1.0.0.0") {
		t.Errorf("%v, %v", got, err)
	}
}
