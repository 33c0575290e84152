package allowfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// MaxSize bounds a file of rules, in bytes. AWS's own file has about 3,000.
const MaxSize = 256 << 10

// maxValue bounds a value of the file, in bytes.
const maxValue = 1024

// Read reads an allowlist in the YAML of AWS's vsock-proxy, whose
// /etc/nitro_enclaves/vsock-proxy.yaml it takes as it is:
//
//	allowlist:
//	- {address: kms.eu-west-1.amazonaws.com, port: 443}
//	- {address: "*.example.com", port: 8000-8100, cids: [16, 17]}
//
// An address is a host as [vsockproxy.ParseAllowlist] has it, with patterns in quotes since
// YAML has its own use for *; an IPv6 address or network needs quotes, and no
// brackets. A port is one or a range. With cids, which is optional, the entry is
// only for enclaves with these context IDs. AWS's program does not know cids and
// would take such an entry as one for everybody; it refuses ranges, and does not
// match patterns and networks.
//
// Whatever else is in the file is a [*vsockproxy.Error] with [vsockproxy.ReasonInvalidAllowlist], which names
// the line: unknown and repeated keys, ports beyond 65535 (AWS's program cuts
// their upper bits off and goes on with another port), aliases, a second
// document, more than [MaxSize] bytes, no entry. So is an error of r,
// which it wraps.
//
// Unlike AWS's program, an entry with a name never permits another name that leads
// to the same addresses.
func Read(r io.Reader) (vsockproxy.Allowlist, error) {
	content, err := readBounded(r)
	if err != nil {
		return vsockproxy.Allowlist{}, err
	}
	return parse(content)
}

// readBounded reads the whole of an allowlist.
func readBounded(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Detail: "the allowlist cannot be read", Err: err}
	}
	if len(content) > MaxSize {
		return nil, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Detail: fmt.Sprintf("the allowlist has more than %d bytes", MaxSize)}
	}
	return content, nil
}

func parse(content []byte) (vsockproxy.Allowlist, error) {
	root, err := parseYAML(content)
	if err != nil {
		return vsockproxy.Allowlist{}, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Detail: "the allowlist is not one YAML document (a pattern such as \"*.example.com\" needs its quotes)", Err: err}
	}
	list, err := allowlistNode(root)
	if err != nil {
		return vsockproxy.Allowlist{}, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Detail: fmt.Sprintf("the allowlist: %v", err)}
	}
	if len(list) > vsockproxy.MaxAllowlistEntries {
		// Before they are read one by one.
		return vsockproxy.Allowlist{}, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Detail: fmt.Sprintf("the allowlist has %d entries; the limit is %d", len(list), vsockproxy.MaxAllowlistEntries)}
	}
	entries := make([]string, len(list))
	for i, node := range list {
		entry, err := entryOf(node)
		if err != nil {
			return vsockproxy.Allowlist{}, &vsockproxy.Error{Op: "Read", Reason: vsockproxy.ReasonInvalidAllowlist, Field: fmt.Sprintf("entry %d of the allowlist, line %d", i+1, node.Line), Detail: err.Error()}
		}
		entries[i] = entry
	}
	a, err := vsockproxy.ParseAllowlist(entries...)
	if err != nil {
		return vsockproxy.Allowlist{}, named("Read", err)
	}
	return a, nil
}

// named puts the operation into an error of package vsockproxy.
func named(op string, err error) error {
	if e, ok := err.(*vsockproxy.Error); ok {
		e.Op = op
	}
	return err
}

// parseYAML returns the content of the one document. It is left as nodes: this
// package decides on keys and types, and the library never follows an alias.
func parseYAML(content []byte) (root *yaml.Node, err error) {
	// A panic of the library while a file is loaded anew must not end a proxy
	// that has connections.
	defer contain.Panic(&err)
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	if err := decoder.Decode(&document); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		return nil, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errors.New("a second document follows")
		}
		return nil, err
	}
	return document.Content[0], nil
}

// allowlistNode returns the entries below the key allowlist.
func allowlistNode(root *yaml.Node) ([]*yaml.Node, error) {
	fields, err := mapping(root, "allowlist")
	if err != nil {
		return nil, err
	}
	list, ok := fields["allowlist"]
	if !ok {
		return nil, errors.New("the key allowlist is missing")
	}
	if err := wantSequence(list); err != nil {
		return nil, fmt.Errorf("line %d: allowlist: %w", list.Line, err)
	}
	return list.Content, nil
}

// entryOf returns an entry as ParseAllowlist has it.
func entryOf(node *yaml.Node) (string, error) {
	fields, err := mapping(node, "address", "port", "cids")
	if err != nil {
		return "", err
	}
	address, err := scalar(fields, "address", "!!str")
	if err != nil {
		return "", err
	}
	port, err := scalar(fields, "port", "!!int", "!!str")
	if err != nil {
		return "", err
	}
	// What has a meaning in an entry's text has none in a value of the file.
	if strings.ContainsAny(address, " []") {
		return "", fmt.Errorf("the address %s has a space or brackets; an IPv6 address has none here", quote(address))
	}
	if strings.Contains(port, " ") {
		return "", fmt.Errorf("the port %s has a space", quote(port))
	}
	entry := net.JoinHostPort(address, port)
	if cids, ok := fields["cids"]; ok {
		list, err := cidsOf(cids)
		if err != nil {
			return "", fmt.Errorf("cids: %w", err)
		}
		entry += " cid=" + list
	}
	// Here, where the line is known.
	var e *vsockproxy.Error
	if _, err := vsockproxy.ParseAllowlist(entry); errors.As(err, &e) {
		return "", errors.New(e.Detail)
	}
	return entry, nil
}

func cidsOf(node *yaml.Node) (string, error) {
	if err := wantSequence(node); err != nil {
		return "", err
	}
	if len(node.Content) == 0 {
		return "", errors.New("the list is empty, so the entry is for nobody; name a context ID, or leave cids out for everybody")
	}
	texts := make([]string, len(node.Content))
	for i, cid := range node.Content {
		var err error
		if texts[i], err = scalarValue(cid, "!!int"); err != nil {
			return "", err
		}
	}
	return strings.Join(texts, ","), nil
}

// mapping returns the values of a mapping that has no other keys than these, and
// none of them twice.
func mapping(node *yaml.Node, keys ...string) (map[string]*yaml.Node, error) {
	if node.Kind != yaml.MappingNode || node.ShortTag() != "!!map" {
		return nil, fmt.Errorf("%s is not a mapping with the keys %q", describe(node), keys)
	}
	fields := make(map[string]*yaml.Node, len(keys))
	for i := 0; i < len(node.Content); i += 2 {
		key := node.Content[i]
		name, err := scalarValue(key, "!!str")
		if err != nil {
			return nil, fmt.Errorf("a key in line %d: %w", key.Line, err)
		}
		known := false
		for _, k := range keys {
			known = known || k == name
		}
		if !known {
			return nil, fmt.Errorf("line %d has the unknown key %s; known are %q", key.Line, quote(name), keys)
		}
		if fields[name] != nil {
			return nil, fmt.Errorf("line %d has the key %s a second time", key.Line, name)
		}
		fields[name] = node.Content[i+1]
	}
	return fields, nil
}

func scalar(fields map[string]*yaml.Node, key string, tags ...string) (string, error) {
	node, ok := fields[key]
	if !ok {
		return "", fmt.Errorf("the key %s is missing", key)
	}
	value, err := scalarValue(node, tags...)
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return value, nil
}

// scalarValue returns the text of a scalar as it is in the file.
func scalarValue(node *yaml.Node, tags ...string) (string, error) {
	if node.Kind == yaml.ScalarNode {
		for _, tag := range tags {
			if node.ShortTag() == tag {
				if len(node.Value) > maxValue {
					return "", fmt.Errorf("the value is %d bytes long; the limit is %d", len(node.Value), maxValue)
				}
				return node.Value, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not a %s", describe(node), map[string]string{"!!str": "string", "!!int": "number"}[tags[0]])
}

func wantSequence(node *yaml.Node) error {
	if node.Kind != yaml.SequenceNode || node.ShortTag() != "!!seq" {
		return fmt.Errorf("%s is not a list", describe(node))
	}
	return nil
}

// describe says what a node is that should be another.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias (*" + quote(node.Value) + "), which allowlists do not have (a pattern needs quotes),"
	}
	return quote(node.Value)
}

// quote quotes what a message repeats of the file, and no more than a bit of it.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
