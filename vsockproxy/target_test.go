package vsockproxy

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
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
		s := mustServer(t, &Proxy{Target: target, Allow: mustAllow(t, target), Resolver: asked})
		_, err := s.resolve(t.Context(), s.target, source{})
		wantReason(t, err, ReasonResolve)
		if got := <-asked; got != want {
			t.Errorf("target %s: the resolver was asked for %q, want %q", target, got, want)
		}
	}
}

// Who writes "localhost" learns why it is not found.
func TestOneLabelIsExplained(t *testing.T) {
	for target, explained := range map[string]bool{"localhost:443": true, "kms.example:443": false} {
		s := mustServer(t, &Proxy{Target: target, Allow: mustAllow(t, target), Resolver: fakeDNS{}})
		_, err := s.resolve(t.Context(), s.target, source{})
		wantReason(t, err, ReasonResolve)
		if strings.Contains(err.Error(), "one label") != explained {
			t.Errorf("target %s: %v", target, err)
		}
	}
}

func mustServer(t *testing.T, p *Proxy) *server {
	t.Helper()
	s, err := p.newServer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
