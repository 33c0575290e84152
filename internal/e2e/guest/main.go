//go:build linux && amd64

// Guest is the first process of the machine that the end-to-end test boots: it
// loads the kernel's modules, runs the checks and reports them on a serial port.
// It is run by internal/e2e/run and of no use anywhere else.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm/boot"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == probeArgument {
		os.Exit(probe())
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the init of the end-to-end test's machine; run internal/e2e/run")
		os.Exit(2)
	}
	r, err := start()
	if err != nil {
		fmt.Println("guest:", err)
		powerOff()
	}
	g := &guest{report: r, machine: parameter("e2e.machine")}
	g.run()
	r.end()
	powerOff()
}

// guest runs the checks on one machine.
type guest struct {
	*report
	machine string
	world   *e2e.World // nil if the host has no vsock
}

// The machines.
const (
	machinePC    = "q35"
	machineNitro = "nitro-enclave"
)

func (g *guest) run() {
	g.facts(map[string]string{"kernel": release()})
	g.bootDuties()
	if _, err := os.Stat("/dev/nsm"); err != nil {
		g.check("boot/nsm", func(context.Context) (string, error) {
			return "", fmt.Errorf("the kernel's driver has made no /dev/nsm: %w", err)
		})
		return
	}
	g.recordings() // before other requests, since they show the NSM as it is at boot
	g.askWorld()
	g.nsm()
	g.stress()
	g.documents()
	g.vsock()
	g.keyRelease()
	g.program()
	g.application()
	g.lockAll() // last, since nothing can be extended afterwards
}

// start mounts what the checks need of a file system, and opens the report.
func start() (*report, error) {
	if err := boot.Mount(); err != nil {
		return nil, err
	}
	path := parameter("e2e.report")
	port, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("the serial port of e2e.report on the kernel's command line: %w", err)
	}
	return &report{w: port}, nil
}

// parameter reads a parameter off the kernel's command line.
func parameter(name string) string {
	text, _ := os.ReadFile("/proc/cmdline")
	for _, field := range strings.Fields(string(text)) {
		if value, ok := strings.CutPrefix(field, name+"="); ok {
			return value
		}
	}
	return ""
}

func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(name.Release[:])
}

func entropyAvailable() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/entropy_avail")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // QEMU ends on this, too
	for {
		time.Sleep(time.Hour)
	}
}

// asUser starts this program again as a user without rights, with an argument.
func asUser(ctx context.Context, argument string) (string, error) {
	cmd := exec.CommandContext(ctx, "/init", argument)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
