package vsockproxy

import (
	"net"
	"strings"
	"testing"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

func TestSourceOf(t *testing.T) {
	for _, test := range []struct {
		addr net.Addr
		want rules.Source
	}{
		{&vsock.Addr{ContextID: 16, Port: 5}, rules.Source{CID: 16, Known: true}},
		{&vsock.Addr{}, rules.Source{Known: true}},
		{(*vsock.Addr)(nil), rules.Source{}},
		{&net.UnixAddr{Name: "vm(16)"}, rules.Source{}},
		{&net.TCPAddr{}, rules.Source{}},
		{nil, rules.Source{}},
	} {
		if got := sourceOf(addressed{remote: test.addr}); got != test.want {
			t.Errorf("%#v is %#v, want %#v", test.addr, got, test.want)
		}
	}
}

// What is wrong with an allowlist is told with the entry.
func TestAllowlistErrors(t *testing.T) {
	for says, entries := range map[string][]string{
		"the allowlist is empty":                     nil,
		"entry 2 of the allowlist: ":                 {"ok.example:443", "*.com:443"},
		"the allowlist has 4097 entries; the limit ": make([]string, MaxAllowlistEntries+1),
	} {
		a, err := ParseAllowlist(entries...)
		e := wantReason(t, err, ReasonInvalidAllowlist)
		if len(a.list) != 0 || e.Op != "ParseAllowlist" || !strings.Contains(e.Error(), says) {
			t.Errorf("%v does not say %q", e, says)
		}
	}
}
