package rules

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// maxRuleCIDs bounds the context IDs of one entry, so that its normal form is
// never longer than an entry may be.
const maxRuleCIDs = 64

// anyCID is VMADDR_CID_ANY of linux/vm_sockets.h, which is nobody's.
const anyCID = 0xFFFFFFFF

// Rule is one entry of an allowlist.
type Rule struct {
	name     string       // a host name, or what a pattern has after "*."; empty for addresses
	below    bool         // a pattern: every name below name, and not name itself
	network  netip.Prefix // of the addresses; a single address has all its bits
	from, to uint16       // the ports, both included
	cids     []uint32     // who may use the rule, ascending; none means everybody
}

// String returns the entry in normal form, which parses to an equal rule.
func (r Rule) String() string {
	host := r.name
	switch {
	case r.network.IsValid() && r.network.IsSingleIP():
		host = r.network.Addr().String()
	case r.network.IsValid():
		host = r.network.String()
	case r.below:
		host = "*." + r.name
	}
	ports := strconv.Itoa(int(r.from))
	if r.to != r.from {
		ports += "-" + strconv.Itoa(int(r.to))
	}
	s := net.JoinHostPort(host, ports)
	if len(r.cids) == 0 {
		return s
	}
	cids := make([]string, len(r.cids))
	for i, cid := range r.cids {
		cids[i] = strconv.FormatUint(uint64(cid), 10)
	}
	return s + " cid=" + strings.Join(cids, ",")
}

// covers reports whether the rule permits t, whoever asks.
func (r Rule) covers(t Target) bool {
	if t.Port < r.from || t.Port > r.to {
		return false
	}
	if t.Addr.IsValid() {
		return r.coversAddr(t.Addr)
	}
	if r.below {
		above, ok := strings.CutSuffix(t.Name, r.name)
		return ok && len(above) > 1 && above[len(above)-1] == '.'
	}
	return r.name != "" && r.name == t.Name
}

// coversAddr reports whether the rule is about addr. A network opens special
// addresses only if it lies inside their block: who lists 10.0.0.0/16 means
// private addresses, and who lists 0.0.0.0/0 means the internet and not the
// loopback. The blocks of the metadata services are single addresses, so no
// network opens those.
func (r Rule) coversAddr(addr netip.Addr) bool {
	if !r.network.Contains(addr) {
		return false
	}
	if r.network.IsSingleIP() {
		return true
	}
	block, class := specialBlock(addr)
	return class == "" || block.IsValid() && r.network.Bits() >= block.Bits()
}

// admits reports whether who asks may use the rule.
func (r Rule) admits(from Source) bool {
	if len(r.cids) == 0 {
		return true
	}
	if !from.Known {
		return false
	}
	_, found := slices.BinarySearch(r.cids, from.CID)
	return found
}

// parseRule reads "host:ports" or "host:ports cid=N,N".
func parseRule(s string) (Rule, error) {
	if len(s) > maxText {
		return Rule{}, fmt.Errorf("the entry is %d bytes long; the limit is %d", len(s), maxText)
	}
	where, who, restricted := strings.Cut(s, " ")
	host, ports, err := splitTarget(where)
	if err != nil {
		return Rule{}, err
	}
	r, err := makeRule(host, ports)
	if err != nil {
		return Rule{}, fmt.Errorf("%q: %w", s, err)
	}
	if restricted {
		list, ok := strings.CutPrefix(who, "cid=")
		if !ok {
			return Rule{}, fmt.Errorf("%q: %q after the space is not of the form cid=16 or cid=16,17", s, who)
		}
		if r.cids, err = parseCIDs(strings.Split(list, ",")); err != nil {
			return Rule{}, fmt.Errorf("%q: %w", s, err)
		}
	}
	return r, nil
}

// makeRule makes a rule for everybody from the host and the ports of an entry.
func makeRule(host, ports string) (Rule, error) {
	var r Rule
	var err error
	if r.from, r.to, err = parsePorts(ports); err != nil {
		return Rule{}, err
	}
	switch {
	case strings.HasPrefix(host, "*"):
		r.below = true
		r.name, err = parsePattern(host)
	case strings.Contains(host, "/"):
		r.network, err = parseNetwork(host)
	default:
		var addr netip.Addr
		if r.name, addr, err = ParseHost(host); addr.IsValid() {
			r.network = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	if err != nil {
		return Rule{}, err
	}
	return r, nil
}

// parsePattern returns what a pattern has after "*.".
func parsePattern(host string) (string, error) {
	suffix, ok := strings.CutPrefix(host, "*.")
	if !ok {
		return "", fmt.Errorf("in a pattern, * stands for whole labels at the beginning, as in *.example.com")
	}
	name, addr, err := ParseHost(suffix)
	if err != nil {
		return "", err
	}
	if addr.IsValid() {
		return "", fmt.Errorf("addresses have no patterns; write a network, such as 10.0.3.0/24")
	}
	if len("x.")+len(name) > MaxHostLength {
		return "", fmt.Errorf("no name is short enough for the pattern: the limit is %d bytes", MaxHostLength)
	}
	if !strings.Contains(name, ".") {
		return "", fmt.Errorf("a pattern needs two labels or more after *, and would else cover a whole top-level domain")
	}
	// Of some domains every child is a registry of its own (*.nom.br in the list),
	// and then the pattern covers all of those.
	below := "x." + name
	registry, icann := publicsuffix.PublicSuffix(name)
	if of, icannBelow := publicsuffix.PublicSuffix(below); icann && registry == name || icannBelow && of == below {
		return "", fmt.Errorf("anybody can register a name below %s, so the pattern permits everybody's; add the label of the owner that is meant", name)
	}
	return name, nil
}

// parseNetwork reads a network in CIDR notation.
func parseNetwork(host string) (netip.Prefix, error) {
	network, err := netip.ParsePrefix(host)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network such as 10.0.3.0/24", host)
	}
	if network.Addr().Is4In6() {
		if network.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("the network mixes IPv4-mapped and other addresses; write an IPv4 and an IPv6 network")
		}
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	if network.Masked() != network {
		return netip.Prefix{}, fmt.Errorf("the network has bits beyond its length; write %v", network.Masked())
	}
	if block, class := specialBlock(network.Addr()); network.IsSingleIP() && class != "" && block.IsValid() && block.IsSingleIP() {
		return netip.Prefix{}, fmt.Errorf("%v is %s, which no network opens; if it is meant, list the address without /%d", network.Addr(), class, network.Bits())
	}
	return network, nil
}

// parsePorts reads "443" or "8000-8100".
func parsePorts(s string) (from, to uint16, err error) {
	first, last, isRange := strings.Cut(s, "-")
	if from, err = parsePort(first); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return from, from, nil
	}
	if to, err = parsePort(last); err != nil {
		return 0, 0, err
	}
	if from > to {
		return 0, 0, fmt.Errorf("the ports %s end before they begin", s)
	}
	return from, to, nil
}

func parsePort(s string) (uint16, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != s {
		return 0, fmt.Errorf("port %q is not a decimal number between 1 and 65535", s)
	}
	return uint16(port), nil
}

// parseCIDs reads context IDs into the order and the form of rule.cids.
func parseCIDs(texts []string) ([]uint32, error) {
	if len(texts) > maxRuleCIDs {
		return nil, fmt.Errorf("%d context IDs; the limit for one entry is %d", len(texts), maxRuleCIDs)
	}
	cids := make([]uint32, 0, len(texts))
	for _, text := range texts {
		cid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || strconv.FormatUint(cid, 10) != text || uint32(cid) == anyCID {
			return nil, fmt.Errorf("context ID %q is not a decimal number between 0 and %d", text, uint32(anyCID-1))
		}
		cids = append(cids, uint32(cid))
	}
	slices.Sort(cids)
	return slices.Compact(cids), nil
}
