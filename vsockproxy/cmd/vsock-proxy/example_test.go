package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The files that the manual shows have no mistake.
func TestManual(t *testing.T) {
	source, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	manual, _, _ := strings.Cut(string(source), "\npackage main")
	// A configuration, and rules with the private addresses of a VPC endpoint in both
	// forms.
	var warnings []int
	for _, block := range regexp.MustCompile(`(?:\n//\t.*)+`).FindAllString(manual, -1) {
		content := strings.ReplaceAll(block, "\n//\t", "\n")
		if !regexp.MustCompile(`^\n(?:metrics|routes|allowlist):`).MatchString(content) {
			continue
		}
		path := filepath.Join(t.TempDir(), "shown.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		p := program{stdout: &stdout, stderr: &stderr}
		if code := p.run([]string{"check", path}); code != exitDone {
			t.Errorf("exit code %d: %s%s", code, stderr.String(), content)
		}
		warnings = append(warnings, strings.Count(stdout.String(), "warning: not public: private (RFC 1918); names on the list may lead there, too"))
	}
	if !slices.Equal(warnings, []int{2, 2, 0}) {
		t.Errorf("files with %v such warnings", warnings)
	}
}

const examples = "../../../examples/vsock-proxy/"

// What the example says of itself holds: the configuration has no mistake, and the
// unit's limits and names fit it.
func TestExample(t *testing.T) {
	var stdout, stderr bytes.Buffer
	p := program{stdout: &stdout, stderr: &stderr}
	if code := p.run([]string{"check", "--config", examples + "config.yaml"}); code != exitDone {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	// Of the route that is open to everybody, which is its purpose.
	if got := strings.Count(stdout.String(), "warning: everybody who reaches tcp://0.0.0.0:8443"); got != 1 {
		t.Errorf("%d warnings:\n%s", got, stdout.String())
	}
	c, err := loadConfig(examples + "config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	need := int(descriptorNeed(c.routes))
	names := make(map[string]bool)
	for _, r := range c.routes {
		names[r.name] = true
	}
	unit, err := os.ReadFile(examples + "vsock-proxy.service")
	if err != nil {
		t.Fatal(err)
	}
	number := func(pattern string) int {
		m := regexp.MustCompile(pattern).FindSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", pattern)
		}
		n, _ := strconv.Atoi(string(m[1]))
		return n
	}
	if limit := number(`(?m)^LimitNOFILE=(\d+)$`); limit < need {
		t.Errorf("LimitNOFILE=%d, and the routes need %d", limit, need)
	}
	if stop := number(`(?m)^TimeoutStopSec=(\d+)s$`); stop <= int(c.drainTimeout.Seconds()) {
		t.Errorf("TimeoutStopSec=%ds, and drain_timeout is %v", stop, c.drainTimeout)
	}
	socket, err := os.ReadFile(examples + "vsock-proxy-kms.socket")
	if err != nil {
		t.Fatal(err)
	}
	if m := regexp.MustCompile(`(?m)^FileDescriptorName=(.*)$`).FindSubmatch(socket); m == nil || !names[string(m[1])] {
		t.Errorf("the socket is for no route: %q", m)
	}
}
