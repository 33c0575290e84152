package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// ModuleDir returns the folder of one of the modules that carry test data,
// fetching it if need be. Test data is not importable, so it is read from there.
func ModuleDir(path string) (string, error) {
	dirs, err := moduleDirs()
	if err != nil {
		return "", err
	}
	if dirs[path] == "" {
		return "", fmt.Errorf("%s isn't among the modules with test data", path)
	}
	return dirs[path], nil
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

// stringLiterals returns the values of all string literals of a Go file.
func stringLiterals(name string, source []byte) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, source, 0)
	if err != nil {
		return nil, err
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
	return values, nil
}

func decodeBase64(s string) ([]byte, bool) {
	b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	return b, err == nil && len(b) > 0
}
