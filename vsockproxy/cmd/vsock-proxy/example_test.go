package main

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

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
	need := spareDescriptors
	names := make(map[string]bool)
	for _, r := range c.routes {
		need += 2 * r.maxConns()
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
