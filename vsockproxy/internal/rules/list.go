package rules

import (
	"fmt"
	"net/netip"
	"slices"
)

// Source is who asks for a target. The zero Source is somebody without a context
// ID, for whom entries with cid are not.
type Source struct {
	CID   uint32
	Known bool
}

func (s Source) String() string {
	if !s.Known {
		return "peers without a context ID"
	}
	return fmt.Sprintf("context ID %d", s.CID)
}

// List is the entries of an allowlist. It is not changed once it is made.
type List []Rule

// MaxEntries bounds a List.
const MaxEntries = 4096

// Error says what is wrong with the text of a list.
type Error struct {
	Entry  int // counted from 1; 0 is the whole
	Detail string
}

func (e *Error) Error() string { return e.Detail }

// Parse reads a list. The error is an [*Error].
func Parse(entries ...string) (List, error) {
	switch n := len(entries); {
	case n == 0:
		return nil, &Error{0, "the allowlist is empty; name at least one host:port, such as kms.eu-west-1.amazonaws.com:443"}
	case n > MaxEntries:
		return nil, &Error{0, fmt.Sprintf("the allowlist has %d entries; the limit is %d", n, MaxEntries)}
	}
	l := make(List, len(entries))
	for i, entry := range entries {
		var err error
		if l[i], err = parseRule(entry); err != nil {
			return nil, &Error{i + 1, err.Error()}
		}
	}
	return l, nil
}

// Lists reports whether t is permitted to anybody.
func (l List) Lists(t Target) bool {
	return slices.ContainsFunc(l, func(r Rule) bool { return r.covers(t) })
}

// Allows reports whether t is permitted to who asks.
func (l List) Allows(t Target, from Source) bool {
	return slices.ContainsFunc(l, func(r Rule) bool { return r.covers(t) && r.admits(from) })
}

// Check says why t is not permitted to who asks, or nil.
func (l List) Check(t Target, from Source) error {
	if l.Allows(t, from) {
		return nil
	}
	if l.Lists(t) {
		return fmt.Errorf("the target %v is on the allowlist, but not for %v; add the context ID to an entry, or correct it", t, from)
	}
	return fmt.Errorf("the target %v is not on the allowlist; list it, or correct it", t)
}

// CheckAddress says why a name may not lead to addr, or nil.
func (l List) CheckAddress(addr netip.Addr, port uint16, from Source) error {
	_, class := specialBlock(addr)
	if class == "" || l.Allows(Target{Addr: addr.Unmap(), Port: port}, from) {
		return nil
	}
	return fmt.Errorf("%v is %s; if it is meant, list %v itself", addr, class, netip.AddrPortFrom(addr, port))
}
