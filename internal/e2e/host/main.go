// Host runs the end-to-end test: it builds the images, boots them, plays the parent
// instance, AWS and KMS for them, and judges what the guest reports. Start it by
// internal/e2e/run, which gets it the machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	var c config
	flag.StringVar(&c.parts, "machine", "", "`folder` with QEMU, firmware, kernel and vhost-device-vsock, as machine.sh makes it")
	flag.StringVar(&c.out, "out", "", "`folder` for reports, recordings and consoles")
	machines := flag.String("on", "q35,nitro-enclave,example", "the `machines` to boot")
	flag.Parse()
	if c.parts == "" || c.out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed, err := c.run(ctx, strings.Split(*machines, ","))
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// config says where things are.
type config struct {
	parts string // what machine.sh made
	out   string
}

// part is the path of a file that machine.sh made.
func (c *config) part(name string) string { return filepath.Join(c.parts, filepath.FromSlash(name)) }

// run boots each machine and writes the reports. It returns how many checks failed.
func (c *config) run(ctx context.Context, machines []string) (int, error) {
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return 0, err
	}
	// What an earlier run left must not be taken for this one's, should this one end early.
	for _, pattern := range []string{"report.*", "*.console", "*.recording.json", "*.eif"} {
		old, err := filepath.Glob(filepath.Join(c.out, pattern))
		if err != nil {
			return 0, err
		}
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				return 0, err
			}
		}
	}
	versions, err := os.ReadFile(c.part("versions"))
	if err != nil {
		return 0, err
	}
	started := time.Now()
	images, err := c.build(ctx)
	if err != nil {
		return 0, err
	}
	report := &report{Started: started.UTC(), Versions: strings.Split(strings.TrimSpace(string(versions)), "\n"), Go: goVersion(), Source: source()}
	report.BuildSeconds = time.Since(started).Seconds()
	fmt.Printf("e2e: images built in %.1f s\n", report.BuildSeconds)
	for _, name := range machines {
		m, err := c.boot(ctx, name, images)
		if err != nil { // the report has the other machines all the same
			m = &machine{Name: name}
			m.fail("host/boot", err)
		}
		report.Machines = append(report.Machines, m)
		m.print(os.Stdout)
	}
	err = report.write(c.out)
	passed, failed, skipped := report.count()
	fmt.Printf("e2e: %d checks passed, %d failed, %d skipped, in %.0f s; see %s\n", passed, failed, skipped, time.Since(started).Seconds(), filepath.Join(c.out, "report.txt"))
	return failed, err
}
