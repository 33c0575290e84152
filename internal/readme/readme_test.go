package readme

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestProgramsAreExamples compares each Go block of the README, named by the
// comment above it, with the body of the Example of that name in this folder.
func TestProgramsAreExamples(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- example: (\\w+) -->\n```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if got := strings.Count(string(readme), "```go"); len(blocks) != 2 || got != 2 {
		t.Fatalf("README.md has %d Go blocks, %d of them named; want two of each", got, len(blocks))
	}
	for _, block := range blocks {
		name, program := block[1], block[2]
		_, rest, found := strings.Cut(string(source), "func Example_"+name+"() {\n")
		body, _, closed := strings.Cut(rest, "\n}\n")
		if !found || !closed {
			t.Errorf("no Example_%s in example_test.go", name)
			continue
		}
		if unindent(body) != strings.TrimRight(program, "\n") {
			t.Errorf("README.md's program %q differs from Example_%s:\n%s", name, name, program)
		}
	}
}

func unindent(body string) string {
	lines := strings.Split(body, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "\t")
	}
	return strings.Join(lines, "\n")
}
