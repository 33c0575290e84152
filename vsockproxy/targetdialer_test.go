package vsockproxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// recordingDNS notes what it is asked for.
type recordingDNS chan string

func (d recordingDNS) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	d <- host
	return nil, errors.New("not here")
}

// Whoever writes the parent's search list must not choose which name is meant.
func TestNamesAreAbsolute(t *testing.T) {
	for target, want := range map[string]string{
		"kms.eu-west-1.amazonaws.com:443":  "kms.eu-west-1.amazonaws.com.",
		"kms.eu-west-1.amazonaws.com.:443": "kms.eu-west-1.amazonaws.com.",
		"KMS:443":                          "kms.",
		"localhost:443":                    "localhost.",
		strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b:443": strings.Repeat(strings.Repeat("a", 62)+".", 4) + "b.", // the longest
	} {
		asked := make(recordingDNS, 1)
		w := toTargetOf(t, &Proxy{Route: To(target), Allow: mustAllow(t, target), Resolver: asked})
		_, err := w.targets.resolve(t.Context(), w.target, rules.Source{})
		wantReason(t, err, ReasonResolve)
		if got := <-asked; got != want {
			t.Errorf("target %s: the resolver was asked for %q, want %q", target, got, want)
		}
	}
}

// Who writes "localhost" learns why it is not found.
func TestOneLabelIsExplained(t *testing.T) {
	for target, explained := range map[string]bool{"localhost:443": true, "kms.example:443": false} {
		w := toTargetOf(t, &Proxy{Route: To(target), Allow: mustAllow(t, target), Resolver: fakeDNS{}})
		_, err := w.targets.resolve(t.Context(), w.target, rules.Source{})
		wantReason(t, err, ReasonResolve)
		if strings.Contains(err.Error(), "one label") != explained {
			t.Errorf("target %s: %v", target, err)
		}
	}
}

// toTargetOf returns the dialer and the target of a proxy with the route To.
func toTargetOf(t *testing.T, p *Proxy) toTarget {
	t.Helper()
	s, err := p.newServer()
	if err != nil {
		t.Fatal(err)
	}
	return s.way.(toTarget)
}

// Once a name was known, its connections outlast the DNS; those to other names
// fail alone.
func TestConnectionsOutlastTheDNS(t *testing.T) {
	target := origin(t, echo)
	name := net.JoinHostPort("name.example", portOf(t, target))
	up := &upstream{answer: answers("127.0.0.1")}
	p := &Proxy{
		Route:    To(name),
		Allow:    mustAllow(t, name, target),
		Resolver: &cachingResolver{Resolver: up, TTL: 1}, // nothing is fresh
	}
	r := start(t, transports[2], p)
	for step := range 3 {
		if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
			t.Errorf("connection %d: %v", step, err)
		}
		r.log.wantEnd(t, endClosed)
		up.now(fails(errServfail))
	}
	if n := up.count(); n < 2 {
		t.Errorf("the resolver was asked %d times, and was to fail", n)
	}
}

// A proxy that is given no resolver has one that remembers.
func TestDefaultResolver(t *testing.T) {
	w := toTargetOf(t, &Proxy{Route: To("a.example:443"), Allow: mustAllow(t, "a.example:443")})
	if _, ok := w.targets.resolver.(*cachingResolver); !ok {
		t.Errorf("the resolver is %T", w.targets.resolver)
	}
}
