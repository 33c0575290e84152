package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxConfigSize bounds a configuration in bytes.
const maxConfigSize = 1 << 20

// mistake is something wrong in a configuration, and where.
type mistake struct {
	path string
	line int
	text string
}

func (m mistake) Error() string {
	if m.line == 0 {
		return fmt.Sprintf("%s: %s", m.path, m.text)
	}
	return fmt.Sprintf("%s:%d: %s", m.path, m.line, m.text)
}

// mistakes are all that was found, so that one look mends all.
type mistakes []mistake

func (m mistakes) Error() string {
	texts := make([]string, len(m))
	for i := range m {
		texts[i] = m[i].Error()
	}
	return strings.Join(texts, "\n")
}

// document is a YAML file while it is read. Its values are taken as nodes and not
// decoded, so that every mistake has its line, no key is ignored, no alias is
// followed, and a number is no string.
type document struct {
	path     string
	root     *yaml.Node
	mistakes mistakes
}

func (d *document) wrong(line int, format string, args ...any) {
	d.mistakes = append(d.mistakes, mistake{d.path, line, fmt.Sprintf(format, args...)})
}

func (d *document) err() error {
	if len(d.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(d.mistakes, func(a, b mistake) int { return a.line - b.line })
	return d.mistakes
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(content) > maxConfigSize {
		err = fmt.Errorf("%s has more than %d bytes", path, maxConfigSize)
	}
	return content, err
}

func parseDocument(path string, content []byte) (*document, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first yaml.Node
	if err := decoder.Decode(&first); errors.Is(err, io.EOF) {
		return nil, mistakes{{path, 0, "the file is empty"}}
	} else if err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if bytes.HasPrefix(content, []byte("\t")) || bytes.Contains(content, []byte("\n\t")) {
			text += " (YAML is indented with spaces, never with tabs)"
		}
		return nil, mistakes{{path, 0, text}}
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, mistakes{{path, second.Line, "a second YAML document follows; there may be one"}}
	}
	return &document{path: path, root: first.Content[0]}, nil
}

// fields is a mapping.
type fields struct {
	*document
	what string // for messages
	line int
	keys map[string]*yaml.Node // where a key is
	vals map[string]*yaml.Node
}

func (d *document) fields(node *yaml.Node, what string, known ...string) *fields {
	f := &fields{document: d, what: what, line: node.Line, keys: make(map[string]*yaml.Node), vals: make(map[string]*yaml.Node)}
	if node.Kind != yaml.MappingNode {
		d.wrong(node.Line, "%s must be a mapping with keys such as %s", what, known[0])
		return f
	}
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			d.wrong(key.Line, "%s has no key %q; the keys are %s", what, key.Value, strings.Join(known, ", "))
		case f.keys[key.Value] != nil:
			d.wrong(key.Line, "%s is there a second time; the first is in line %d", key.Value, f.keys[key.Value].Line)
		default:
			f.keys[key.Value], f.vals[key.Value] = key, value
		}
	}
	return f
}

func (f *fields) has(key string) bool { return f.keys[key] != nil }

// at is the line of a key, or of the mapping if the key is not there.
func (f *fields) at(key string) int {
	if k := f.keys[key]; k != nil {
		return k.Line
	}
	return f.line
}

// scalar returns the text of a value that has one of the types, or "".
func (f *fields) scalar(key, want string, tags ...string) string {
	node, ok := f.vals[key]
	if !ok {
		return ""
	}
	if node.Kind != yaml.ScalarNode || !slices.Contains(tags, node.ShortTag()) || node.Value == "" {
		f.wrong(f.at(key), "%s must be %s", key, want)
		return ""
	}
	return node.Value
}

func (f *fields) text(key, want string) string { return f.scalar(key, want, "!!str") }

// limit reads a number that is more than zero, since zero would mean the default
// and look like none.
func (f *fields) limit(key string, most int) int {
	return f.number(key, most, "; leave it out for the default")
}

func (f *fields) number(key string, most int, advice string) int {
	want := fmt.Sprintf("a number from 1 to %d%s", most, advice)
	text := f.scalar(key, want, "!!int")
	if text == "" {
		return 0
	}
	var n int
	if err := f.vals[key].Decode(&n); err != nil || n < 1 || n > most {
		f.wrong(f.at(key), "%s must be %s", key, want)
		return 0
	}
	return n
}

func (f *fields) duration(key string) time.Duration {
	const want = "a time such as 30s, 5m or 1h30m, more than zero; leave it out for the default"
	text := f.text(key, want)
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		f.wrong(f.at(key), "%s must be %s", key, want)
		return 0
	}
	return d
}

func (f *fields) boolean(key string) bool {
	text := f.scalar(key, "true or false", "!!bool")
	if text == "" {
		return false
	}
	var b bool
	if err := f.vals[key].Decode(&b); err != nil {
		f.wrong(f.at(key), "%s must be true or false", key)
	}
	return b
}

// choice reads one of a few words.
func choice[T any](f *fields, key string, words []string, values []T) T {
	var zero T
	want := "one of " + strings.Join(words, ", ")
	text := f.text(key, want)
	if text == "" {
		return zero
	}
	i := slices.Index(words, text)
	if i < 0 {
		f.wrong(f.at(key), "%s must be %s", key, want)
		return zero
	}
	return values[i]
}

func (f *fields) list(key, want string) []*yaml.Node {
	node, ok := f.vals[key]
	if !ok {
		return nil
	}
	if node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		f.wrong(f.at(key), "%s must be %s", key, want)
		return nil
	}
	return node.Content
}
