package vsockproxy

import (
	"fmt"
	"strconv"
	"strings"
)

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
	explained := make([]Explanation, len(a.entries))
	for i, r := range a.entries {
		explained[i] = Explanation{
			Entry:    r.String(),
			Words:    fmt.Sprintf("%s may reach %s, %s", r.who(), r.where(), r.ports()),
			Warnings: r.warnings(),
		}
	}
	return explained
}

func (r rule) who() string {
	if len(r.cids) == 0 {
		return "everybody"
	}
	cids := make([]string, len(r.cids))
	for i, cid := range r.cids {
		cids[i] = strconv.FormatUint(uint64(cid), 10)
	}
	return "the enclaves with context ID " + strings.Join(cids, ", ")
}

func (r rule) where() string {
	switch {
	case r.below:
		return "every name below " + r.name
	case !r.network.IsValid():
		return r.name
	case r.network.IsSingleIP():
		return "the address " + r.network.Addr().String()
	case r.class() == "":
		return "the public addresses of " + r.network.String()
	}
	return "the addresses of " + r.network.String()
}

func (r rule) ports() string {
	if r.from == r.to {
		return fmt.Sprintf("port %d", r.from)
	}
	return fmt.Sprintf("ports %d to %d", r.from, r.to)
}

// class is what kind of special addresses the rule opens; none is "".
func (r rule) class() string {
	if !r.network.IsValid() {
		return ""
	}
	block, class := specialBlock(r.network.Addr())
	if r.network.IsSingleIP() || block.IsValid() && r.network.Bits() >= block.Bits() {
		return class
	}
	return ""
}

// isWide reports whether the rule is of a network that is as wide as the largest
// that registries get.
func (r rule) isWide() bool {
	bits := r.network.Bits()
	return r.network.IsValid() && r.class() == "" && (bits <= 8 || r.network.Addr().Is6() && bits <= 16)
}

func (r rule) warnings() []string {
	var w []string
	block, _ := specialBlock(r.network.Addr())
	switch class := r.class(); {
	case class == "":
	case r.network.IsSingleIP() && block.IsValid() && block.IsSingleIP() && !r.network.Addr().IsLoopback() && !r.network.Addr().IsUnspecified():
		// The blocks of one address are those of the services that hand out
		// credentials, but for IPv6's loopback and unspecified address.
		w = append(w, fmt.Sprintf("this is the service for %s: who reaches it has the credentials of the parent instance or its tasks", class))
	default:
		w = append(w, fmt.Sprintf("not public: %s; names on the list may lead there, too", class))
	}
	if r.isWide() {
		w = append(w, "this is a large part of the internet, where anybody can have a server; list names where you can")
	}
	if r.below {
		w = append(w, "by asking for names below "+r.name+", enclaves make the parent send DNS queries, as many as they like, which can carry data out to whoever runs that domain's DNS")
	}
	if r.name != "" && !r.below && !strings.Contains(r.name, ".") {
		w = append(w, r.name+" has one label, and is neither completed by a search list nor found in /etc/hosts; list the full name or the address")
	}
	if r.from <= 80 && r.to >= 80 {
		w = append(w, "port 80 is HTTP without TLS: the parent, and everybody on the way, reads and changes it")
	}
	return w
}
