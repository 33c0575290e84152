package rules

import (
	"fmt"
	"strconv"
	"strings"
)

// Words says what the rule permits, for people.
func (r Rule) Words() string {
	return fmt.Sprintf("%s may reach %s, %s", r.who(), r.where(), r.ports())
}

func (r Rule) who() string {
	if len(r.cids) == 0 {
		return "everybody"
	}
	cids := make([]string, len(r.cids))
	for i, cid := range r.cids {
		cids[i] = strconv.FormatUint(uint64(cid), 10)
	}
	return "the enclaves with context ID " + strings.Join(cids, ", ")
}

func (r Rule) where() string {
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

func (r Rule) ports() string {
	if r.from == r.to {
		return fmt.Sprintf("port %d", r.from)
	}
	return fmt.Sprintf("ports %d to %d", r.from, r.to)
}

// class is what kind of special addresses the rule opens; none is "".
func (r Rule) class() string {
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
func (r Rule) isWide() bool {
	bits := r.network.Bits()
	return r.network.IsValid() && r.class() == "" && (bits <= 8 || r.network.Addr().Is6() && bits <= 16)
}

// Warnings says what the rule's author may not have thought of, a sentence each.
func (r Rule) Warnings() []string {
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
