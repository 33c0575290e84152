package interop

import (
	"strings"
	"testing"
)

func moduleDir(t testing.TB, path string) string {
	t.Helper()
	dir, err := ModuleDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// blobs returns every binary value that a file may hold: the file itself, its
// base64 decoding, or, of Go source, each string that is base64.
func blobs(t testing.TB, name string, content []byte) [][]byte {
	t.Helper()
	if !strings.HasSuffix(name, ".go") {
		if b, ok := decodeBase64(string(content)); ok {
			return [][]byte{b}
		}
		return [][]byte{content}
	}
	literals, err := stringLiterals(name, content)
	if err != nil {
		t.Fatal(err)
	}
	var found [][]byte
	for _, s := range literals {
		if b, ok := decodeBase64(s); ok {
			found = append(found, b)
		}
	}
	return found
}
