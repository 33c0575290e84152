package attestation_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/realdoc"
	"github.com/keyvouch/keyvouch/internal/vectors"
)

const vectorsDir = "testdata/vectors"

// maxVectorsFile keeps the files such that editors and code hosts show them.
const maxVectorsFile = 900 << 10

// TestVectors runs the published vectors.
func TestVectors(t *testing.T) {
	t.Parallel()
	files := loadVectors(t)
	runVectors(t, files)

	count := map[vectors.Result]int{}
	for _, f := range files {
		info, err := os.Stat(filepath.Join(vectorsDir, f.Subject+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxVectorsFile {
			t.Errorf("%s has %d bytes: split it", info.Name(), info.Size())
		}
		for _, v := range f.Vectors {
			count[v.Result]++
		}
	}
	if count[vectors.Reject] < 150 || count[vectors.Accept] < 30 {
		t.Errorf("too few vectors: %v", count)
	}
}

// TestGeneratedVectors runs vectors made this minute, which must be the
// published ones but for their keys.
func TestGeneratedVectors(t *testing.T) {
	t.Parallel()
	generated, err := vectors.Generate()
	if err != nil {
		t.Fatal(err)
	}
	runVectors(t, generated)
	known, made := outlines(loadVectors(t)), outlines(generated)
	for _, line := range made {
		if !slices.Contains(known, line) {
			t.Errorf("not published, or another way: %s", line)
		}
	}
	for _, line := range known {
		if !slices.Contains(made, line) {
			t.Errorf("no longer generated, or another way: %s", line)
		}
	}
	if t.Failed() {
		t.Log("run go run ./internal/vectors/generate in the root of the repository")
	}
}

// TestEveryReasonHasAVector reads the reasons from the source, so that a new
// one cannot be forgotten here or in the README.
func TestEveryReasonHasAVector(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile(vectorsDir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := reasonConstants(t)
	count := map[attestation.Reason]int{}
	for _, f := range loadVectors(t) {
		for _, v := range f.Vectors {
			count[v.Reason]++
			if v.Reason != "" && !slices.Contains(reasons, v.Reason) {
				t.Errorf("%s/%s: there is no reason %q", f.Subject, v.Name, v.Reason)
			}
		}
	}
	for _, reason := range reasons {
		if count[reason] == 0 {
			t.Errorf("no vector has the reason %q", reason)
		}
		if !strings.Contains(string(readme), "`"+string(reason)+"`") {
			t.Errorf("the README does not explain the reason %q", reason)
		}
		t.Logf("%-26s %d", reason, count[reason])
	}
}

// published holds the vectors' files, which every test only reads.
var published = sync.OnceValues(func() ([]vectors.File, error) { return vectors.Load(vectorsDir) })

func loadVectors(t *testing.T) []vectors.File {
	t.Helper()
	files, err := published()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// runVectors runs all vectors. No document, however made, costs more than one
// verification for each of its certificates, and one of them costs the most there is.
func runVectors(t *testing.T, files []vectors.File) {
	t.Helper()
	var mu sync.Mutex
	most := int64(0)
	t.Run("all", func(t *testing.T) {
		for _, f := range files {
			for _, v := range f.Vectors {
				t.Run(f.Subject+"/"+v.Name, func(t *testing.T) {
					t.Parallel()
					got := runVector(t, f.Roots, &v)
					mu.Lock()
					defer mu.Unlock()
					most = max(most, got)
				})
			}
		}
	})
	if most != attestation.MaxCABundle+1 {
		t.Errorf("the most expensive vector takes %d verifications, want %d", most, attestation.MaxCABundle+1)
	}
}

// runVector returns how many signatures the document cost.
func runVector(t *testing.T, roots [][]byte, v *vectors.Vector) int64 {
	verifier, err := v.Verifier(roots)
	if err != nil {
		// The policy is what is wrong with it.
		if v.Result != vectors.Reject {
			t.Fatal(err)
		}
		hasReason(t, err, v.Reason)
		return 0
	}
	doc, err := verifier.Verify(v.Document, v.Expect.Expect())
	got := attestation.CountSignatures(verifier).Load()
	// The root's own signature is not verified, the document's is.
	certificates := int64(0)
	if u, err := attestation.ParseUnverified(v.Document); err == nil {
		certificates = int64(len(u.CABundle)) + 1
	}
	if got > certificates {
		t.Errorf("%d verifications, with %d certificates", got, certificates)
	}
	if v.Result == vectors.Reject {
		if doc != nil {
			t.Error("a document came with the error")
		}
		hasReason(t, err, v.Reason)
		return got
	}
	if err != nil {
		t.Fatal(err)
	}
	// Again, with what the cache remembers of the first time.
	if again := accepts(t, verifier, v.Document, v.Expect.Expect()); doc == nil || again == nil {
		t.Fatal("neither a document nor an error")
	}
	return got
}

// outlines is all of the vectors that does not change with the keys.
func outlines(files []vectors.File) []string {
	var lines []string
	for _, f := range files {
		for _, v := range f.Vectors {
			lines = append(lines, strings.Join([]string{f.Subject + "/" + v.Name, v.Time.String(), string(v.Result), string(v.Reason), v.Comment}, ", "))
		}
	}
	return lines
}

// reasonConstants lists the constants of type Reason in errors.go.
func reasonConstants(t *testing.T) []attestation.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []attestation.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "Reason" {
			return true
		}
		for _, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, attestation.Reason(text))
		}
		return true
	})
	if len(reasons) < 30 {
		t.Fatalf("found only %d reasons in errors.go", len(reasons))
	}
	return reasons
}

func TestRealDocuments(t *testing.T) {
	t.Parallel()
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation")) {
		t.Run(e.File, func(t *testing.T) { e.Verify(t) })
	}
}

func TestRealRejects(t *testing.T) {
	t.Parallel()
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation-negative")) {
		t.Run(e.File, func(t *testing.T) { t.Log(e.Reject(t)) })
	}
}
