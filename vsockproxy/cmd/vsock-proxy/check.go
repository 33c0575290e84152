package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/allowfile"
)

// check says what a configuration means, or a file of rules alone. It opens the
// files that a configuration names, and neither listens nor resolves names.
func (p *program) check(path string) error {
	content, err := readFile(path)
	if err != nil {
		return usageError{err}
	}
	if d, err := parseDocument(path, content); err == nil && isRuleFile(d.root) {
		return p.checkRules(path, content)
	}
	c, err := loadConfig(path)
	if err != nil {
		return err
	}
	var text report
	for _, r := range c.routes {
		text.route(r)
	}
	if c.metrics.IsZero() {
		text.line("no metrics and health")
	} else {
		text.line("metrics and health on %v", c.metrics)
		if isTCP(c.metrics) && !isLoopback(c.metrics) {
			text.warn("everybody who reaches %v sees what the enclaves do and when", c.metrics)
		}
	}
	if warning := descriptorWarning(c.routes); warning != "" {
		text.warn("with this shell's limits, %s", warning)
	}
	text.line("%s: %s, no mistakes, %s", path, count(len(c.routes), "route"), count(text.warnings, "warning"))
	_, err = p.stdout.Write(text.Bytes())
	return err
}

// count is "1 route" or "2 routes".
func count[N int | int64](n N, of string) string {
	if n != 1 {
		of += "s"
	}
	return fmt.Sprintf("%d %s", n, of)
}

// isRuleFile tells a file in the format of AWS's vsock-proxy.yaml from a
// configuration.
func isRuleFile(root *yaml.Node) bool {
	return hasKey(root, "allowlist") && !hasKey(root, "routes")
}

func hasKey(root *yaml.Node, key string) bool {
	if root.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == key {
			return true
		}
	}
	return false
}

func (p *program) checkRules(path string, content []byte) error {
	a, err := allowfile.Read(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%s: %s", path, plain(err))
	}
	var text report
	text.line("rules in the format of AWS's vsock-proxy:")
	text.rules(a)
	text.line("%s: %s, no mistakes, %s", path, count(len(a.Entries()), "rule"), count(text.warnings, "warning"))
	_, err = p.stdout.Write(text.Bytes())
	return err
}

// report collects what check says.
type report struct {
	bytes.Buffer
	warnings int
}

func (t *report) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (t *report) warn(format string, args ...any) {
	t.warnings++
	t.line("    warning: "+format, args...)
}

func (t *report) route(r *route) {
	on := r.listen.String()
	if r.listen.IsZero() {
		on = "the socket from systemd with FileDescriptorName=" + r.name
	}
	t.line("route %s (line %d)", r.name, r.line)
	t.line("  listens on %s", on)
	t.line("  leads %s", r.words)
	t.limits(r)
	if isTCP(r.listen) && !isLoopback(r.listen) {
		if r.allow == nil {
			t.warn("everybody who reaches %v reaches the enclave, which has to know its clients", r.listen)
		} else {
			t.warn("%v is for development: everybody who reaches it may use the route, enclave or not", r.listen)
		}
	}
	vsock := isVsock(r.listen) || r.listen.IsZero()
	if r.proxy.MaxConnsPerCID > 0 && !vsock {
		t.warn("max_conns_per_cid has no effect, since only vsock tells who connects")
	}
	if r.allow == nil {
		return
	}
	if r.file != nil {
		t.line("  rules from %s, loaded anew when they change", r.file.path)
	}
	a := r.allow()
	t.rules(a)
	if r.server != 0 {
		for _, entry := range a.Entries() {
			if !hasPort(entry, r.server) {
				t.warn("%s permits nothing here, since the route leads to port %d only", entry, r.server)
			}
		}
	}
	if !vsock {
		for _, entry := range a.Entries() {
			if strings.Contains(entry, " cid=") {
				t.warn("%s is for nobody here, since only vsock tells who connects", entry)
			}
		}
	}
}

// hasPort reports whether an entry in normal form is for a port.
func hasPort(entry string, port int) bool {
	entry, _, _ = strings.Cut(entry, " ")
	from, to, isRange := strings.Cut(entry[strings.LastIndex(entry, ":")+1:], "-")
	if !isRange {
		to = from
	}
	first, _ := strconv.Atoi(from)
	last, _ := strconv.Atoi(to)
	return first <= port && port <= last
}

// limits says what is set, and nothing of defaults.
func (t *report) limits(r *route) {
	var set []string
	add := func(given bool, format string, args ...any) {
		if given {
			set = append(set, fmt.Sprintf(format, args...))
		}
	}
	p := r.proxy
	add(p.AddressFamily != vsockproxy.AnyFamily, "addresses: %v", p.AddressFamily)
	add(p.MaxConns > 0, "at most %s", count(p.MaxConns, "connection"))
	add(p.MaxConnsPerCID > 0, "at most %s for one context ID", count(p.MaxConnsPerCID, "connection"))
	add(p.HandshakeTimeout > 0, "target named within %v", p.HandshakeTimeout)
	add(p.DialTimeout > 0, "target reached within %v", p.DialTimeout)
	add(p.IdleTimeout > 0, "ended when idle for %v", p.IdleTimeout)
	add(p.MaxLifetime > 0, "cut after %v", p.MaxLifetime)
	if len(set) > 0 {
		t.line("  %s", strings.Join(set, "; "))
	}
}

func (t *report) rules(a vsockproxy.Allowlist) {
	for _, e := range a.Explain() {
		t.line("  %s: %s", e.Entry, e.Words)
		for _, w := range e.Warnings {
			t.warn("%s", w)
		}
	}
}
