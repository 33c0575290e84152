package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/keyvouch/keyvouch"

// testSupport may import anything and be imported by tests and examples only.
var testSupport = []string{
	module + "/nsm/nsmtest",
	module + "/kmsclient/kmstest",
	module + "/kmsclient/kmstest/internal/envelope",
	module + "/kmsclient/kmstest/internal/sigv4",
	module + "/internal/realdoc",
	module + "/internal/readme",
	module + "/internal/imports",
	module + "/internal/vectors",
	module + "/internal/vectors/generate",
	module + "/internal/programtest",
	module + "/internal/testkeys",
	module + "/vsockproxy/internal/conntest",
	module + "/vsockproxy/internal/preface/prefacetest",
	module + "/internal/testkeys/generate",
	module + "/internal/e2e",
	module + "/internal/e2e/guest",
	module + "/internal/e2e/host",
}

// may lists, for each production package, the packages of this module that it may
// reach, directly or not, beside what lies below those and below itself in internal.
var may = map[string][]string{
	module + "/attestation":                {module + "/attestation/pcr", module + "/internal/es384", module + "/internal/errtext"},
	module + "/attestation/pcr":            {module + "/internal/errtext"},
	module + "/attestation/eif":            attestationAndBelow,
	module + "/attestation/cmd/attest":     append([]string{module + "/attestation/eif"}, attestationAndBelow...),
	module + "/nsm":                        {module + "/attestation/pcr", module + "/internal/errtext"},
	module + "/nsm/boot":                   {module + "/nsm", module + "/vsockproxy", module + "/attestation/pcr", module + "/internal/errtext", module + "/internal/loopback"},
	module + "/vsockproxy":                 {module + "/internal/errtext", module + "/internal/loopback"},
	module + "/vsockproxy/allowfile":       {module + "/vsockproxy", module + "/internal/errtext", module + "/internal/loopback"},
	module + "/vsockproxy/cmd/vsock-proxy": {module + "/vsockproxy", module + "/vsockproxy/allowfile", module + "/internal/errtext", module + "/internal/loopback"},
	module + "/internal/loopback":          nil,
	module + "/internal/cms":               {module + "/internal/errtext"},
	module + "/internal/errtext":           nil,
	module + "/internal/es384":             nil,
	module + "/kmsclient":                  append([]string{module + "/nsm", module + "/internal/cms"}, attestationAndBelow...),
	module + "/kmsclient/cmd/kmstool": append([]string{module + "/kmsclient", module + "/nsm", module + "/vsockproxy", module + "/internal/loopback",
		module + "/internal/cms"}, attestationAndBelow...),
}

// attestationAndBelow is the package attestation and what it may reach.
var attestationAndBelow = []string{module + "/attestation", module + "/attestation/pcr", module + "/internal/es384", module + "/internal/errtext"}

// owner returns the package of this module in whose internal folder path lies, and
// path itself if it lies in none.
func owner(path string) string {
	if root, _, ok := strings.Cut(path, "/internal/"); ok && root != module {
		return root
	}
	return path
}

type goPackage struct {
	ImportPath string
	Deps       []string
}

func list(t *testing.T, tags string) []goPackage {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("go", "list", "-tags", tags, "-json=ImportPath,Deps", module+"/...")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var packages []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestProductionPackages(t *testing.T) {
	found := 0
	for _, p := range list(t, "") {
		if slices.Contains(testSupport, p.ImportPath) || slices.Contains(testSupport, owner(p.ImportPath)) ||
			strings.HasPrefix(p.ImportPath, module+"/examples/") {
			continue
		}
		above := owner(p.ImportPath)
		allowed, production := may[above]
		if !production {
			t.Errorf("%s is in neither list of this test: say what it may import", p.ImportPath)
			continue
		}
		if above == p.ImportPath {
			found++
		}
		for _, dep := range p.Deps {
			switch {
			case dep == "testing" || dep == "net/http/httptest":
				t.Errorf("%s reaches %s, which belongs in tests", p.ImportPath, dep)
			case !strings.HasPrefix(dep, module+"/"):
			case slices.Contains(testSupport, dep):
				t.Errorf("%s reaches %s, which belongs in tests", p.ImportPath, dep)
			case dep == above && above != p.ImportPath:
				t.Errorf("%s reaches up to %s", p.ImportPath, dep)
			case owner(dep) != above && !slices.Contains(allowed, owner(dep)):
				t.Errorf("%s reaches %s", p.ImportPath, dep)
			}
		}
	}
	if found != len(may) {
		t.Errorf("found %d of the %d production packages", found, len(may))
	}
}

// The end-to-end test's roots and signatures are in a program only if it is built with
// a tag, and of all programs only in one example. The tag has this project's name,
// since people build with tags of their own, and with GOFLAGS everything.
func TestEndToEndTag(t *testing.T) {
	const e2e = module + "/internal/e2e"
	for tags, want := range map[string][]string{
		"":             nil,
		"e2e":          nil,
		"keyvouch_e2e": {module + "/examples/keyrelease"},
	} {
		var reach []string
		for _, p := range list(t, tags) {
			if slices.Contains(p.Deps, e2e) && !strings.HasPrefix(p.ImportPath, e2e+"/") {
				reach = append(reach, p.ImportPath)
			}
		}
		if !slices.Equal(reach, want) {
			t.Errorf("with the tags %q, %s is reached by %q, want %q", tags, e2e, reach, want)
		}
	}
}

// A production program's recipient keys are made by crypto/rsa: the variable by which
// tests put prepared ones in their place is assigned to by tests only.
func TestRecipientKeysAreMade(t *testing.T) {
	files, err := exec.Command("git", "ls-files", "-co", "--exclude-standard", "--", ":/*.go").Output()
	if err != nil {
		t.Skip("not a git checkout: ", err)
	}
	assigned := regexp.MustCompile(`rsakey\.Generate\s*=|&rsakey\.Generate`)
	for _, name := range strings.Fields(string(files)) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			continue // deleted, and not yet from the index
		}
		if assigned.Match(source) {
			t.Errorf("%s assigns to rsakey.Generate, which is for tests", name)
		}
	}
}

// An enclave has no allowlist, and no need of a parser for its file.
func TestEnclaveProgramsLinkNoYAML(t *testing.T) {
	enclave := []string{module + "/kmsclient/cmd/kmstool", module + "/examples/enclave", module + "/examples/keyrelease"}
	found := 0
	for _, p := range list(t, "") {
		if !slices.Contains(enclave, p.ImportPath) {
			continue
		}
		found++
		for _, dep := range p.Deps {
			if strings.Contains(dep, "yaml") {
				t.Errorf("%s links %s", p.ImportPath, dep)
			}
		}
	}
	if found != len(enclave) {
		t.Errorf("found %d of %d programs", found, len(enclave))
	}
}
