package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/allowfile"
)

// config is what a process serves, from a file or from the command line of AWS's
// program.
type config struct {
	path    string // of the file; empty for the command line
	content []byte // of the file

	logLevel     slog.Level
	logJSON      bool
	metrics      vsockproxy.Endpoint // zero means none
	drainTimeout time.Duration
	routes       []*route
	files        []*ruleFile
}

// route is a listener and what becomes of its connections.
type route struct {
	name   string
	line   int                 // in the file
	listen vsockproxy.Endpoint // zero means: from systemd
	proxy  vsockproxy.Proxy
	kind   string                      // "target", "connect", "server_name" or "to_enclave"
	target string                      // of a route to one
	words  string                      // where it leads
	allow  func() vsockproxy.Allowlist // nil if it leads into the enclave
	file   *ruleFile                   // where the rules are from, if they are from a file
	server int                         // the port of server_name; zero for other routes
}

// ruleFile is a file of rules, which several routes may have.
type ruleFile struct {
	path string
	*allowfile.File
}

// fromSystemd is how a route says that its listener is passed by systemd.
const fromSystemd = "systemd"

var (
	logLevels = []string{"debug", "info", "warn", "error"}
	levels    = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

	familyWords = []string{"any", "ipv4-only", "ipv6-only", "prefer-ipv4", "prefer-ipv6"}
	families    = []vsockproxy.AddressFamily{vsockproxy.AnyFamily, vsockproxy.IPv4Only, vsockproxy.IPv6Only, vsockproxy.PreferIPv4, vsockproxy.PreferIPv6}
)

// routeName keeps names fit for LISTEN_FDNAMES of systemd, which has colons
// between them, and for labels of metrics.
var routeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// most is the bound of limits in a file, far beyond what a process can have.
const most = 1 << 20

func loadConfig(path string) (*config, error) {
	content, err := readFile(path)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(path, content)
	if err != nil {
		return nil, err
	}
	c := &config{path: path, content: content}
	c.read(d)
	return c, d.err()
}

func (c *config) read(d *document) {
	if isRuleFile(d.root) {
		d.wrong(d.root.Line, "these are rules in the format of AWS's vsock-proxy.yaml, and not a configuration: serve them with vsock-proxy --config FILE LOCAL_PORT REMOTE_ADDR REMOTE_PORT, or name them as allowlist_file in a route of a configuration")
		return
	}
	f := d.fields(d.root, "the configuration",
		"routes", "log_level", "log_format", "metrics", "unsafe_metrics_on_any_address", "drain_timeout")
	c.logLevel = choice(f, "log_level", logLevels, levels)
	c.logJSON = choice(f, "log_format", []string{"text", "json"}, []bool{false, true})
	c.drainTimeout = f.duration("drain_timeout")
	anywhere := f.boolean("unsafe_metrics_on_any_address")
	if text := f.text("metrics", "an endpoint, such as tcp://127.0.0.1:9464"); text != "" {
		var err error
		if c.metrics, err = metricsEndpoint(text, anywhere); err != nil {
			d.wrong(f.at("metrics"), "metrics: %v", err)
		}
	} else if anywhere {
		d.wrong(f.at("unsafe_metrics_on_any_address"), "unsafe_metrics_on_any_address is set, and metrics is not")
	}
	if !f.has("routes") {
		if d.root.Kind == yaml.MappingNode {
			d.wrong(f.line, "routes is missing: a list with at least one route (in AWS's vsock-proxy.yaml, which check reads too, the key is allowlist)")
		}
		return
	}
	names, listens := make(map[string]int), make(map[string]int)
	for _, node := range f.list("routes", "a list with at least one route") {
		r := c.readRoute(d, d.fields(node, "a route",
			"name", "listen", "target", "connect", "server_name", "to_enclave", "proxy_protocol",
			"allowlist", "allowlist_file", "address_family", "max_conns", "max_conns_per_cid",
			"handshake_timeout", "dial_timeout", "idle_timeout", "max_lifetime"))
		if line, taken := names[r.name]; taken && r.name != "" {
			d.wrong(r.line, "the route of line %d has the name %s, too", line, r.name)
		}
		names[r.name] = r.line
		if at := r.listen.String(); at != "" {
			if line, taken := listens[at]; taken {
				d.wrong(r.line, "the route of line %d listens on %s, too", line, at)
			}
			listens[at] = r.line
		}
		c.routes = append(c.routes, r)
	}
}

func (c *config) readRoute(d *document, f *fields) *route {
	before := len(d.mistakes)
	r := &route{line: f.line}
	const nameWanted = "1 to 64 letters, digits, dots, hyphens and underscores (in quotes if it looks like a number)"
	if r.name = f.text("name", nameWanted); r.name != "" && !routeName.MatchString(r.name) {
		d.wrong(f.at("name"), "name must be %s", nameWanted)
	}
	if !f.has("name") {
		d.wrong(f.line, "the route has no name, by which logs and metrics would call it")
	}
	switch text := f.text("listen", "an endpoint, such as vsock://any:8000"); {
	case !f.has("listen"):
		d.wrong(f.line, "the route has no listen, such as vsock://any:8000")
	case text != "" && text != fromSystemd:
		var err error
		if r.listen, err = vsockproxy.ParseEndpoint(text); err != nil {
			d.wrong(f.at("listen"), "listen: %v", plain(err))
		}
	}
	r.proxy = vsockproxy.Proxy{
		AddressFamily:    choice(f, "address_family", familyWords, families),
		MaxConns:         f.limit("max_conns", most),
		MaxConnsPerCID:   f.limit("max_conns_per_cid", most),
		HandshakeTimeout: f.duration("handshake_timeout"),
		DialTimeout:      f.duration("dial_timeout"),
		IdleTimeout:      f.duration("idle_timeout"),
		MaxLifetime:      f.duration("max_lifetime"),
		DrainTimeout:     c.drainTimeout,
	}
	c.readDestination(d, f, r)
	// A mistake in a part would show in the whole again.
	if len(d.mistakes) == before {
		if err := r.proxy.Check(); err != nil {
			d.wrong(f.line, "route %s: %s", r.name, inWords(err, map[string]string{"Proxy.Route": r.kind, "Proxy.AddressFamily": "address_family"}))
		}
	}
	return r
}

// readDestination reads where a route leads, and what its clients may reach.
func (c *config) readDestination(d *document, f *fields, r *route) {
	kinds := []string{"target", "connect", "server_name", "to_enclave"}
	var kind string
	for _, k := range kinds {
		switch {
		case !f.has(k):
		case kind != "":
			d.wrong(f.at(k), "a route has one of %s, and this one has %s, too", strings.Join(kinds, ", "), kind)
			return
		default:
			kind = k
		}
	}
	if f.has("proxy_protocol") && kind != "to_enclave" {
		d.wrong(f.at("proxy_protocol"), "proxy_protocol is for routes with to_enclave")
	}
	r.kind = kind
	switch kind {
	case "":
		d.wrong(f.line, "the route leads nowhere: it needs one of %s", strings.Join(kinds, ", "))
		return
	case "target":
		r.target = f.text("target", "host:port, such as kms.eu-west-1.amazonaws.com:443")
		r.proxy.Route = vsockproxy.To(r.target)
		r.words = "to " + r.target
	case "connect":
		if before := len(d.mistakes); !f.boolean("connect") && len(d.mistakes) == before {
			d.wrong(f.at("connect"), "connect must be true, or left out for another kind of route")
		}
		r.proxy.Route = vsockproxy.Connect()
		r.words = "where the client asks to, by HTTP CONNECT"
	case "server_name":
		port := f.number("server_name", 65535, "")
		r.server = port
		r.proxy.Route = vsockproxy.ServerName(uint16(port))
		r.words = fmt.Sprintf("to the server that the client's TLS names, port %d", port)
	case "to_enclave":
		c.readEnclave(d, f, r)
		return
	}
	c.readAllowlist(d, f, r)
}

func (c *config) readEnclave(d *document, f *fields, r *route) {
	for _, key := range []string{"allowlist", "allowlist_file", "address_family"} {
		if f.has(key) {
			d.wrong(f.at(key), "%s is for routes out of the enclave, and does not restrict who may come in", key)
		}
	}
	proxyProtocol := f.boolean("proxy_protocol")
	text := f.text("to_enclave", "an endpoint, such as vsock://16:8443")
	if text == "" {
		return
	}
	e, err := vsockproxy.ParseEndpoint(text)
	if err != nil {
		d.wrong(f.at("to_enclave"), "to_enclave: %v", plain(err))
		return
	}
	r.proxy.Route = vsockproxy.ToEnclave(e)
	r.words = "into the enclave at " + e.String()
	if proxyProtocol {
		r.proxy.Route = vsockproxy.ToEnclaveProxyV2(e)
		r.words += ", which is told the client's address by the PROXY protocol"
	}
}

// readAllowlist reads the rules of a route, in the file itself or in a file of
// their own. A route to one target needs none: that target is then the rule.
func (c *config) readAllowlist(d *document, f *fields, r *route) {
	entries := f.list("allowlist", "a list of entries such as kms.eu-west-1.amazonaws.com:443")
	path := f.text("allowlist_file", "the path of a file")
	switch {
	case f.has("allowlist") && f.has("allowlist_file"):
		d.wrong(f.at("allowlist_file"), "the route has an allowlist, too; which are the rules?")
	case f.has("allowlist_file"):
		if path == "" {
			return
		}
		file, err := c.ruleFile(path)
		if err != nil {
			d.wrong(f.at("allowlist_file"), "%s", plain(err))
			return
		}
		r.use(file)
	case f.has("allowlist"):
		before := len(d.mistakes)
		var texts []string
		for _, node := range entries {
			if node.Kind != yaml.ScalarNode || node.ShortTag() != "!!str" {
				d.wrong(node.Line, "an entry must be a text such as kms.eu-west-1.amazonaws.com:443, and in quotes if it begins with * or [ (AWS's form, with address and port, goes in a file: allowlist_file)")
				continue
			}
			// One by one, for the line.
			if _, err := vsockproxy.ParseAllowlist(node.Value); err != nil {
				d.wrong(node.Line, "allowlist: %s", withoutEntry(err))
				continue
			}
			texts = append(texts, node.Value)
		}
		if len(texts) > 0 && len(d.mistakes) == before {
			r.list(d, f, "allowlist", texts...)
		}
	case r.target != "":
		r.list(d, f, "target", r.target)
	case f.has("target"): // there is a mistake in it already
	default:
		d.wrong(f.line, "the route has no rules: allowlist or allowlist_file says what its clients may reach")
	}
}

// withoutEntry is for an entry that is given alone.
func withoutEntry(err error) string {
	return inWords(err, map[string]string{"entry 1 of the allowlist": ""})
}

// use takes the rules from a file.
func (r *route) use(file *ruleFile) {
	r.file = file
	r.allow = file.Allowlist
	r.proxy.AllowFrom = file.Allowlist
}

// list takes the rules from the configuration.
func (r *route) list(d *document, f *fields, key string, entries ...string) {
	a, err := vsockproxy.ParseAllowlist(entries...)
	if err != nil {
		d.wrong(f.at(key), "%s: %s", key, withoutEntry(err))
		return
	}
	r.proxy.Allow = a
	r.allow = func() vsockproxy.Allowlist { return a }
}

// ruleFile opens a file of rules, each once. A relative path begins where the
// configuration is.
func (c *config) ruleFile(path string) (*ruleFile, error) {
	if !filepath.IsAbs(path) && c.path != "" {
		path = filepath.Join(filepath.Dir(c.path), path)
	}
	for _, f := range c.files {
		if f.path == path {
			return f, nil
		}
	}
	opened, err := allowfile.Open(path)
	if err != nil {
		return nil, err
	}
	f := &ruleFile{path, opened}
	c.files = append(c.files, f)
	return f, nil
}

// metricsEndpoint reads where the metrics are served. They tell what an enclave
// does and when, so that everybody on the network is not the default.
func metricsEndpoint(text string, anywhere bool) (vsockproxy.Endpoint, error) {
	e, err := vsockproxy.ParseEndpoint(text)
	if err != nil {
		return e, errors.New(plain(err))
	}
	switch {
	case isUnix(e), isLoopback(e), anywhere && isTCP(e):
		return e, nil
	case isTCP(e):
		return e, fmt.Errorf("%v is not a loopback address such as 127.0.0.1 or [::1]; whoever reaches it would see what the enclaves do and when, and could keep the server busy. Where a firewall stands in between, unsafe_metrics_on_any_address permits it", e)
	}
	return e, fmt.Errorf("%v: metrics are for tcp and unix endpoints", e)
}

func isUnix(e vsockproxy.Endpoint) bool  { return e.Network() == "unix" }
func isTCP(e vsockproxy.Endpoint) bool   { return e.Network() == "tcp" }
func isVsock(e vsockproxy.Endpoint) bool { return e.Network() == "vsock" }

// isLoopback reports whether e is TCP on a loopback address. A name is none:
// "localhost" leads wherever /etc/hosts says.
func isLoopback(e vsockproxy.Endpoint) bool {
	addr, err := netip.ParseAddrPort(e.Address())
	return err == nil && isTCP(e) && addr.Addr().IsLoopback()
}

// plain is an error's text without the names of package and API: the field, what is
// wrong with it, and the cause in the same words.
func plain(err error) string { return inWords(err, nil) }

// inWords is the same with the names that fields of the API have here.
func inWords(err error, fields map[string]string) string {
	var e *vsockproxy.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	var parts []string
	add := func(part string) {
		if part != "" {
			parts = append(parts, part)
		}
	}
	switch e.Reason {
	case vsockproxy.ReasonInvalidEndpoint, vsockproxy.ReasonInvalidAllowlist, vsockproxy.ReasonInvalidOptions, vsockproxy.ReasonNotAllowed:
		// What is wrong in a text needs no word for that.
	default:
		add(string(e.Reason))
	}
	if field, ok := fields[e.Field]; ok {
		add(field)
	} else {
		add(e.Field)
	}
	add(e.Detail)
	if e.Err != nil {
		add(inWords(e.Err, fields))
	}
	return strings.Join(parts, ": ")
}
