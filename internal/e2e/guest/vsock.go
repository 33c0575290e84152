//go:build linux && amd64

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/internal/e2e"
)

// suiteLimit bounds the run of package vsockproxy's tests.
const suiteLimit = 8 * time.Minute

// result is how a test ends in the output of a test binary with -test.v.
var result = regexp.MustCompile(`^(\s*)--- (PASS|FAIL|SKIP): (\S+) \((\S+)s\)`)

// vsock runs those tests of package vsockproxy that use AF_VSOCK, as go test built
// them: where there is none they are skipped, and here they run.
func (g *guest) vsock() {
	g.checkWithin("vsock/suite", suiteLimit, func(ctx context.Context) (string, error) {
		for name, content := range map[string]string{
			"/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
			// Nobody answers there, as on a machine without a network.
			"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		} {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				return "", err
			}
		}
		pattern, err := os.ReadFile("/vsockproxy/run")
		if err != nil {
			return "", err
		}
		cmd := exec.CommandContext(ctx, "/vsockproxy/vsockproxy.test", "-test.run", string(pattern), "-test.v", "-test.short", "-test.timeout", (suiteLimit - 30*time.Second).String())
		cmd.Dir = "/vsockproxy"
		cmd.Env = []string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/"}
		out, err := cmd.CombinedOutput()

		count := map[string]int{}
		overVsock := 0
		type timed struct {
			name    string
			seconds float64
		}
		var slowest []timed
		var failed, skipped []string
		var said string
		for scanner := bufio.NewScanner(bytes.NewReader(out)); scanner.Scan(); {
			m := result.FindStringSubmatch(scanner.Text())
			if m == nil {
				said = strings.TrimSpace(scanner.Text())
				continue
			}
			count[m[2]]++
			if seconds, err := strconv.ParseFloat(m[4], 64); err == nil && m[1] == "" {
				slowest = append(slowest, timed{m[3], seconds})
			}
			switch {
			case m[2] == "FAIL":
				failed = append(failed, m[3])
			case m[2] == "SKIP":
				skipped = append(skipped, m[3]+" ("+said+")") // what a test said last is why
			case regexp.MustCompile(`/vsock(/|$|_)`).MatchString(m[3]):
				overVsock++
			}
		}
		detail := fmt.Sprintf("of package vsockproxy %d tests and subtests passed, of which %d have AF_VSOCK in their names, %d skipped %q", count["PASS"], overVsock, count["SKIP"], skipped)
		slices.SortFunc(slowest, func(a, b timed) int { return cmp.Compare(b.seconds, a.seconds) })
		g.facts(map[string]string{"slowest tests": fmt.Sprint(slowest[:min(12, len(slowest))])})
		g.line(e2e.Line{Facts: map[string]string{"vsockproxy's tests": detail}})
		if err == nil && len(failed) == 0 && overVsock == 0 {
			err = fmt.Errorf("none ran over AF_VSOCK")
		}
		if err == nil && bytes.Contains(out, []byte("no AF_VSOCK loopback on this machine")) {
			err = fmt.Errorf("tests were skipped for lack of AF_VSOCK, and it is here")
		}
		if err != nil {
			return "", fmt.Errorf("%s, failed %v: %w\n%s", detail, failed, err, tail(failures(out), 6000))
		}
		return detail, nil
	})
}

// failures are the lines of a test's output that are not about what passed.
func failures(out []byte) []byte {
	var kept [][]byte
	for line := range bytes.Lines(out) {
		if t := bytes.TrimSpace(line); bytes.HasPrefix(t, []byte("===")) || bytes.HasPrefix(t, []byte("--- PASS")) {
			continue
		}
		kept = append(kept, line)
	}
	return bytes.Join(kept, nil)
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }
