package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/keyvouch/keyvouch/attestation/eif"
	"github.com/keyvouch/keyvouch/examples/enclave/cpio"
)

const module = "github.com/keyvouch/keyvouch"

func goVersion() string { return runtime.Version() }

// source is the commit that this program was built from.
func source() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", with changes"
		}
	}
	return revision + changed
}

// images are what is booted.
type images struct {
	kernel string
	// ramdisks are the boot ram disk, with init and modules, and that of the
	// applications.
	ramdisks [2][]byte
	attest   string // the program, which measures what was booted
}

// build makes the ram disks.
func (c *config) build(ctx context.Context) (*images, error) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := func(name string, args ...string) ([]byte, error) {
		file := filepath.Join(dir, name)
		cmd := exec.CommandContext(ctx, "go", append(args, "-o", file)...)
		if args[len(args)-1] != "-c" { // go's flags come before the package
			cmd.Args = append([]string{"go", args[0], "-o", file}, args[1:]...)
		}
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
		return os.ReadFile(file)
	}
	init, err := program("init", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", module+"/internal/e2e/guest")
	if err != nil {
		return nil, err
	}
	tests, err := program("vsockproxy.test", "test", "-c", "-trimpath", "-ldflags=-s -w", module+"/vsockproxy")
	if err != nil {
		return nil, err
	}
	release, err := program("keyrelease", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-tags=keyvouch_e2e", module+"/examples/keyrelease")
	if err != nil {
		return nil, err
	}
	shipped, err := program("keyrelease-as-shipped", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", module+"/examples/keyrelease")
	if err != nil {
		return nil, err
	}
	folder, err := packageFolder(ctx, module+"/vsockproxy")
	if err != nil {
		return nil, err
	}

	i := &images{kernel: c.part("kernel/vmlinuz"), attest: filepath.Join(c.out, "attest")}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", i.attest, module+"/attestation/cmd/attest").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("attest: %w\n%s", err, out)
	}
	boot := newDisk("dev", "etc", "modules", "proc", "sys", "tmp")
	boot.file("init", 0o755, init)
	modules, err := filepath.Glob(c.part("kernel/modules/*.ko"))
	if err != nil || len(modules) == 0 {
		return nil, fmt.Errorf("no kernel modules in %s", c.parts)
	}
	for _, name := range modules {
		content, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		boot.file("modules/"+filepath.Base(name), 0o644, content)
	}
	applications := newDisk("vsockproxy", "keyrelease")
	applications.file("keyrelease/keyrelease", 0o755, release)
	applications.file("keyrelease/as-shipped", 0o755, shipped)
	applications.file("vsockproxy/vsockproxy.test", 0o755, tests)
	pattern, err := vsockTests(os.DirFS(folder))
	if err != nil {
		return nil, err
	}
	applications.file("vsockproxy/run", 0o644, []byte(pattern))
	for n, d := range []*disk{boot, applications} {
		if i.ramdisks[n], err = d.close(); err != nil {
			return nil, err
		}
	}
	return i, nil
}

func packageFolder(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", path).Output()
	return strings.TrimSpace(string(out)), err
}

// vsockTests is the pattern for -test.run that picks the tests that use AF_VSOCK where
// there is one: those that say so in their source, and of what they do on every
// transport, what they do on this. The others run anywhere, and would take minutes
// under emulation.
func vsockTests(source fs.FS) (string, error) {
	files, err := fs.Glob(source, "*_test.go")
	if err != nil {
		return "", err
	}
	var names []string
	for _, file := range files {
		text, err := fs.ReadFile(source, file)
		if err != nil {
			return "", err
		}
		for _, function := range strings.Split(string(text), "\nfunc ")[1:] {
			name, _, _ := strings.Cut(function, "(")
			if strings.HasPrefix(name, "Test") && (strings.Contains(function, "eachTransport(") || strings.Contains(function, "needVsockLoopback(")) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return "", errors.New("no test of package vsockproxy uses AF_VSOCK; has its setup_test.go changed?")
	}
	return "^(" + strings.Join(names, "|") + ")$/vsock", nil
}

// disk is a ram disk in the making; the first error is that of close.
type disk struct {
	b   bytes.Buffer
	w   *cpio.Writer
	err error
}

func newDisk(directories ...string) *disk {
	d := new(disk)
	d.w = cpio.NewWriter(&d.b)
	for _, name := range directories {
		d.keep(d.w.Directory(name))
	}
	return d
}

func (d *disk) keep(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *disk) file(name string, perm fs.FileMode, content []byte) {
	d.keep(d.w.File(name, perm, content))
}

func (d *disk) close() ([]byte, error) {
	d.keep(d.w.Close())
	return d.b.Bytes(), d.err
}

// enclaveImage writes the images as an enclave image file, and returns what its
// documents have to say.
func (i *images) enclaveImage(file, cmdline string) (*eif.Image, error) {
	kernel, err := os.ReadFile(i.kernel)
	if err != nil {
		return nil, err
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	image, err := eif.Write(f, eif.Contents{
		Kernel: bytes.NewReader(kernel), Cmdline: cmdline,
		Ramdisks: []eif.Source{bytes.NewReader(i.ramdisks[0]), bytes.NewReader(i.ramdisks[1])},
		Metadata: eif.Metadata{ImageName: "keyvouch-e2e", ImageVersion: "1"},
	})
	if err != nil {
		return nil, err
	}
	return image, f.Close()
}

// tscKHz is the rate of this processor's time stamp counter, which QEMU shows the
// guest: Linux cannot always measure it under emulation, and does not boot then.
func tscKHz() (int, error) {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0, err
	}
	for _, known := range []struct {
		in    string
		scale float64
	}{
		{`(?m)^model name.*@ ([0-9.]+)GHz`, 1e6}, // the nominal rate, where the name has it
		{`(?m)^cpu MHz\s*: ([0-9.]+)`, 1e3},
	} {
		if m := regexp.MustCompile(known.in).FindSubmatch(text); m != nil {
			rate, err := strconv.ParseFloat(string(m[1]), 64)
			return int(rate * known.scale), err
		}
	}
	return 0, fmt.Errorf("/proc/cpuinfo doesn't tell the processor's rate")
}
