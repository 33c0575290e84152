package interop

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

//go:embed js/calls.js js/package.json js/package-lock.json
var javaScriptFiles embed.FS

// unreachable finds npm's codes for a registry that can't be reached, or that
// doesn't serve, as opposed to one that serves something else than the lock
// file says.
var unreachable = regexp.MustCompile(`(?m)^npm (?:error|ERR!) code (?:E(?:NOTFOUND|AI_AGAIN|CONNREFUSED|CONNRESET|TIMEDOUT|HOSTUNREACH|NETUNREACH|NOTCACHED|401|403|407|429|5\d\d)|ERR_SOCKET_TIMEOUT|FETCH_ERROR)$`)

// installJavaScript returns a folder with the scripts of the folder js and the
// packages that its lock file names. It stays in the user's cache for as long
// as none of these files changes. The test is skipped where there is no Node.js
// or no way to its packages.
func installJavaScript(t *testing.T) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("needs Node.js 20 or later: %v", err)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Skipf("needs npm, to install the AWS SDK for JavaScript: %v", err)
	}
	files, err := fs.Sub(javaScriptFiles, "js")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.New()
	for _, name := range []string{"calls.js", "package.json", "package-lock.json"} {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		fileDigest := sha256.Sum256(content)
		digest.Write(fileDigest[:])
	}

	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "keyvouch-interop")
	dir = filepath.Join(cache, hex.EncodeToString(digest.Sum(nil)))
	if _, err := os.Stat(dir); err == nil {
		return node, dir
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	// The folder gets its name when it is complete: what has it, is.
	building, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(building)
	if err := os.CopyFS(building, files); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=1")
	install.Dir = building
	if out, err := install.CombinedOutput(); unreachable.Match(out) {
		t.Skipf("npm can't reach its registry:\n%s", out)
	} else if err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	// Another process may have been faster: its folder is as good.
	if err := os.Rename(building, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return node, dir
}
