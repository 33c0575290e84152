package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// The machines, and what their documents say.
const (
	machinePC    = "q35"
	machineNitro = "nitro-enclave"
	// machineExample is a nitro-enclave machine with the image of examples/enclave.
	machineExample = "example"

	instanceID = "i-0123456789abcdef0"
	moduleID   = instanceID + "-enc0123456789abcdef"
	roleARN    = "arn:aws:iam::123456789012:role/probe"
)

const (
	// bootLimit is how long a guest may take to its first line, and the example's to
	// its end. Under emulation Linux now and then does not come that far, so there is a
	// second try.
	bootLimit = 2 * time.Minute
	// runLimit bounds the whole run of a guest.
	runLimit = 20 * time.Minute
)

// errNotBooted is the error of a guest that has said nothing.
var errNotBooted = errors.New("the guest has not come up")

// boot boots a machine, a second time if it does not come up, and judges it.
func (c *config) boot(ctx context.Context, name string, i *images) (*machine, error) {
	for try := 1; ; try++ {
		boot := c.bootOnce
		if name == machineExample {
			boot = c.bootExample
		}
		m, err := boot(ctx, name, i)
		if errors.Is(err, errNotBooted) && try == 1 && ctx.Err() == nil {
			fmt.Printf("e2e: %s: %v; trying again\n", name, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		m.Tries = try
		return m, nil
	}
}

func (c *config) bootOnce(ctx context.Context, name string, i *images) (*machine, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	// A short name: a Unix socket's path has 107 bytes at most.
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m := &machine{Name: name, Facts: map[string]string{}}

	cmdline := "console=ttyS0 panic=-1 quiet random.trust_cpu=off e2e.host=vsock e2e.machine=" + name
	var arguments []string
	var image *eif.Image
	switch name {
	case machinePC:
		initrd := filepath.Join(dir, "initrd")
		if err := os.WriteFile(initrd, slices.Concat(i.ramdisks[0], i.ramdisks[1]), 0o600); err != nil {
			return nil, err
		}
		arguments = []string{
			"-M", "q35,memory-backend=mem", "-object", "memory-backend-memfd,id=mem,size=512M,share=on",
			"-kernel", i.kernel, "-initrd", initrd, "-append", cmdline + " e2e.report=/dev/ttyS1",
			"-serial", "file:" + filepath.Join(dir, "console"), "-serial", "stdio",
			"-device", "virtio-nsm-pci", "-device", "vhost-user-vsock-pci,chardev=vsock",
			"-nodefaults", "-no-user-config",
		}
	case machineNitro:
		rate, err := tscKHz()
		if err != nil {
			return nil, err
		}
		file := filepath.Join(c.out, name+".eif")
		// It has one serial port, for both the console and the report.
		image, err = i.enclaveImage(file, fmt.Sprintf("%s e2e.report=/dev/ttyS0 tsc_early_khz=%d", cmdline, rate))
		if err != nil {
			return nil, err
		}
		m.PCRs = image.PCRs
		arguments = enclaveArguments(file)
	default:
		return nil, fmt.Errorf("there are the machines %s, %s and %s", machinePC, machineNitro, machineExample)
	}

	vsock := filepath.Join(dir, "vm.vsock")
	w, err := newWorld(ctx, m, vsock)
	if err != nil {
		return nil, err
	}
	defer w.close()
	device, err := c.startVsock(ctx, dir, vsock, guestCID)
	if err != nil {
		return nil, err
	}
	defer device.end()

	qemu := c.qemu(ctx, dir, arguments)
	var said bytes.Buffer
	qemu.Stderr = &said
	output, err := qemu.StdoutPipe()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := qemu.Start(); err != nil {
		return nil, err
	}
	watchdog := time.AfterFunc(bootLimit, func() { _ = qemu.Process.Kill() })
	defer watchdog.Stop()

	console, err := os.Create(filepath.Join(c.out, name+".console"))
	if err != nil {
		_ = qemu.Process.Kill()
		return nil, errors.Join(err, qemu.Wait())
	}
	defer console.Close()
	var recording []byte
	lines := 0
	reader := bufio.NewReader(io.TeeReader(output, console))
	for {
		text, readErr := reader.ReadBytes('\n')
		line, ok, err := e2e.ParseLine(text)
		if ok {
			if m.BootSeconds == 0 {
				m.BootSeconds = time.Since(began).Seconds()
				watchdog.Stop()
			}
			if err != nil {
				m.fail("report/line", err)
			}
			switch {
			case line.Check != nil:
				m.add(*line.Check)
			case line.Facts != nil:
				for name, value := range line.Facts {
					m.Facts[name] = value
				}
			case line.Recording != nil:
				recording = append(recording, line.Recording...)
			case line.End != nil:
				m.ended, m.complete = true, *line.End == lines
			}
			lines++
		}
		if readErr != nil {
			break
		}
	}
	waited := qemu.Wait()
	m.RunSeconds = time.Since(began).Seconds()
	if name == machinePC {
		kernel, _ := os.ReadFile(filepath.Join(dir, "console"))
		_, _ = console.Write(append([]byte("\n--- the kernel's console\n"), kernel...))
	}
	if lines == 0 {
		return nil, fmt.Errorf("%w: QEMU: %v: %s", errNotBooted, waited, bytes.TrimSpace(said.Bytes()))
	}
	m.QEMUSaid = string(bytes.TrimSpace(said.Bytes()))
	w.judge(m)
	m.judge(c.saveRecording(name, recording))
	if image != nil {
		m.judgeImage(ctx, i.attest, filepath.Join(c.out, name+".eif"))
	}
	return m, nil
}

// enclaveArguments have QEMU start an enclave from an image file.
func enclaveArguments(image string) []string {
	return []string{
		// acpi=on is how the kernel finds its devices.
		"-M", "nitro-enclave,vsock=vsock,id=" + moduleID + ",parent-role=" + roleARN + ",parent-id=" + instanceID + ",acpi=on",
		"-kernel", image, "-serial", "stdio",
		// By the other way of notification QEMU looks into a device's queue once
		// unasked when its driver is ready, on another thread. Linux has asked the NSM
		// for random bytes by then, in two parts: if only the first is there,
		// QEMU says "Expected response buffer" and never answers again.
		"-global", "virtio-mmio.ioeventfd=off",
	}
}

// qemu is the command that starts a machine, with the vsock device of dir.
func (c *config) qemu(ctx context.Context, dir string, arguments []string) *exec.Cmd {
	return exec.CommandContext(ctx, c.part("qemu/lib/ld-linux-x86-64.so.2"), append([]string{
		"--library-path", c.part("qemu/lib"), c.part("qemu/qemu-system-x86_64"),
		"-L", c.part("firmware"), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "512",
		"-display", "none", "-monitor", "none", "-no-reboot",
		"-chardev", "socket,id=vsock,path=" + filepath.Join(dir, "vhost"),
	}, arguments...)...)
}

// saveRecording keeps the recording that the guest sent, and reads it back.
func (c *config) saveRecording(name string, compressed []byte) (int, error) {
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return 0, err
	}
	recording, err := nsmtest.ReadRecording(io.LimitReader(z, nsmtest.MaxRecordingSize))
	if err != nil {
		return 0, err
	}
	return len(recording.Exchanges), recording.WriteFile(filepath.Join(c.out, name+".recording.json"))
}

// vsockDevice is the program that gives the guest a vsock device, and the host a
// Unix socket for each port.
type vsockDevice struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// guestCID is the context ID of the guests. A Nitro enclave's parent has it: what a
// guest sends there comes back to itself, so that the library's defaults can be
// tried; the host, which is the parent here, is context ID 2.
const guestCID = 3

func (c *config) startVsock(ctx context.Context, dir, vsock string, cid int) (*vsockDevice, error) {
	d := &vsockDevice{done: make(chan struct{})}
	vhost := filepath.Join(dir, "vhost")
	d.cmd = exec.CommandContext(ctx, c.part("vhost/lib/ld-linux-x86-64.so.2"), "--library-path", c.part("vhost/lib"), c.part("vhost/vhost-device-vsock"),
		"--vm", fmt.Sprintf("guest-cid=%d,socket=%s,uds-path=%s", cid, vhost, vsock))
	var said bytes.Buffer
	d.cmd.Stdout, d.cmd.Stderr = &said, &said
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	for range 500 {
		if _, err := os.Stat(vhost); err == nil {
			return d, nil
		}
		select {
		case <-d.done:
			return nil, fmt.Errorf("vhost-device-vsock ended: %s", said.Bytes())
		case <-time.After(20 * time.Millisecond):
		}
	}
	d.end()
	return nil, fmt.Errorf("vhost-device-vsock has made no socket: %s", said.Bytes())
}

func (d *vsockDevice) end() {
	_ = d.cmd.Process.Kill()
	<-d.done
}
