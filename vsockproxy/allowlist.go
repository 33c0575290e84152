package vsockproxy

import (
	"errors"
	"fmt"
	"net"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// Allowlist is the set of targets that a [Proxy] may connect to. It is immutable
// and safe for concurrent use; build it with [ParseAllowlist] or by package allowfile. The zero Allowlist is empty, and a Proxy refuses to start
// with it.
type Allowlist struct {
	list rules.List
}

// Entries returns the entries in their order and in normal form, as
// [ParseAllowlist] reads them: to log, print or compare what is in force.
func (a Allowlist) Entries() []string {
	entries := make([]string, len(a.list))
	for i, r := range a.list {
		entries[i] = r.String()
	}
	return entries
}

// ParseAllowlist builds an allowlist from entries "host:ports" or
// "host:ports cid=N,N". What no entry permits is refused, and the order of the
// entries does not matter. The host is one of
//
//	kms.eu-west-1.amazonaws.com   exactly this name
//	*.example.com                 names with one or more labels before
//	                              .example.com; not example.com itself
//	10.0.3.17  [2600:1f18::1]     exactly this address
//	10.0.3.0/24  [2600:1f18::/32] the addresses of this network
//
// and the ports are one from 1 to 65535, or a range such as 8000-8100.
//
// With cid, the entry is only for connections from enclaves with one of these
// context IDs, as the kernel gives them on a vsock listener; it is never for
// connections that arrive over Unix sockets (hybrid vsock among them) or TCP.
// Start an enclave with a context ID of its own (nitro-cli run-enclave
// --enclave-cid): a number that nitro-cli chose may be another enclave's later.
//
// Names are compared without regard to case and to one trailing dot. A pattern
// is refused if it covers a whole top-level domain or, by the ICANN part of the
// Public Suffix List, another domain under which anybody can register a name, such
// as *.co.uk. The list's private part does not count, so a pattern is as wide as it
// looks: anybody can have a bucket under *.s3.amazonaws.com. Whoever may use a
// pattern also makes the proxy ask the DNS for names below it, as many as they like.
// Entries of addresses and networks permit targets that are written as addresses,
// and not names that lead there.
//
// Every name is absolute, with the dot or without: a [Proxy] never completes it
// by the search list of resolv.conf(5). A name of one label, such as "kms", is thus
// a top-level domain, and resolvers do not find it in /etc/hosts, not even
// "localhost": list the full name or the address.
//
// A name on the list does not cover the loopback, link-local, private and other
// special addresses it may resolve to (see the package documentation): to reach
// one, list the address itself too, or its network. A network opens special
// addresses only if it lies inside their block: 10.0.0.0/16 does, and 0.0.0.0/0 is
// the public internet and nothing else. The metadata and credential services of
// EC2, ECS and EKS (169.254.169.254, 169.254.170.2, 169.254.170.23,
// fd00:ec2::254, fd00:ec2::23) are opened by no network, only by their address.
//
// A malformed entry, no entry at all, or more than [MaxAllowlistEntries] is an
// *Error with [ReasonInvalidAllowlist].
func ParseAllowlist(entries ...string) (Allowlist, error) {
	list, err := rules.Parse(entries...)
	if err != nil {
		return Allowlist{}, allowlistError("ParseAllowlist", err)
	}
	return Allowlist{list}, nil
}

// allowlistError is the *Error for what is wrong with the text of an allowlist.
func allowlistError(op string, err error) error {
	e := &Error{Op: op, Reason: ReasonInvalidAllowlist, Detail: err.Error()}
	var in *rules.Error
	if errors.As(err, &in) && in.Entry > 0 {
		e.Field = fmt.Sprintf("entry %d of the allowlist", in.Entry)
	}
	return e
}

// Explanation is an entry of an [Allowlist] in words, for people who check what
// they have permitted.
type Explanation struct {
	// Entry is the entry in normal form, as [Allowlist].Entries has it.
	Entry string
	// Words is what it permits, such as "everybody may reach a.example, port 443".
	Words string
	// Warnings are what its author may not have thought of, a sentence each.
	Warnings []string
}

// Explain returns the entries in their order, in words. The words are for people,
// and may change.
func (a Allowlist) Explain() []Explanation {
	explained := make([]Explanation, len(a.list))
	for i, r := range a.list {
		explained[i] = Explanation{Entry: r.String(), Words: r.Words(), Warnings: r.Warnings()}
	}
	return explained
}

// sourceOf says who is at the other end of conn.
func sourceOf(conn net.Conn) rules.Source {
	if addr, ok := conn.RemoteAddr().(*vsock.Addr); ok && addr != nil {
		return rules.Source{CID: addr.ContextID, Known: true}
	}
	return rules.Source{}
}
