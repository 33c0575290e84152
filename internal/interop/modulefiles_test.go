package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// moduleDir returns the folder of a module that go.mod requires, fetching it
// if need be. Test data isn't importable, so it is read from there.
func moduleDir(t testing.TB, path string) string {
	t.Helper()
	dirs, err := moduleDirs()
	if err != nil {
		t.Fatal(err)
	}
	if dirs[path] == "" {
		t.Fatalf("go.mod doesn't require %s", path)
	}
	return dirs[path]
}

var moduleDirs = sync.OnceValues(func() (map[string]string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "mod", "download", "-json",
		"github.com/anjuna-security/go-nitro-attestation",
		"github.com/blocky/nitrite",
		"github.com/brave/nitriding",
		"github.com/c2sp/wycheproof",
		"github.com/edgebitio/nitro-enclaves-sdk-go",
		"github.com/veracruz-project/go-nitro-enclave-attestation-document")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New("go mod download: " + err.Error() + "\n" + stderr.String() + string(out))
	}
	dirs := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var m struct{ Path, Dir string }
		if err := d.Decode(&m); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		dirs[m.Path] = m.Dir
	}
})

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
	var found [][]byte
	for _, s := range stringLiterals(t, name, content) {
		if b, ok := decodeBase64(s); ok {
			found = append(found, b)
		}
	}
	return found
}

func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	return b, err == nil && len(b) > 0
}

// stringLiterals returns the values of all string literals of a Go file.
func stringLiterals(t testing.TB, name string, source []byte) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				values = append(values, s)
			}
		}
		return true
	})
	return values
}
