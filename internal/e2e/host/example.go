package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/examples/enclave/service"
	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// enclaveCID is the context ID of the example's enclave.
const enclaveCID = 16

// bootExample boots the image of examples/enclave as its own program builds it,
// byte for byte what a user would deploy but for the kernel and the addresses. It
// does its boot duties, measures itself, gets the role's credentials and asks KMS:
// there it must stop. The stand-in has no certificate of Amazon's, and the
// documents here are not signed by AWS; in an image that went on, anybody could be KMS.
// That it serves once its secret is released, the guest on the other machines shows.
func (c *config) bootExample(ctx context.Context, name string, i *images) (*machine, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	m := &machine{Name: name, Facts: map[string]string{}}
	file := filepath.Join(c.out, name+".eif")
	expected, err := c.exampleImage(ctx, dir, file, i)
	if err != nil {
		return nil, err
	}
	m.PCRs = expected.PCRs
	vsock := filepath.Join(dir, "vm.vsock")
	w, err := newWorld(ctx, m, vsock)
	if err != nil {
		return nil, err
	}
	defer w.close()
	device, err := c.startVsock(ctx, dir, vsock, enclaveCID)
	if err != nil {
		return nil, err
	}
	defer device.end()

	qemu := c.qemu(ctx, dir, enclaveArguments(file))
	var console, said bytes.Buffer
	qemu.Stdout, qemu.Stderr = &console, &said
	began := time.Now()
	if err := qemu.Start(); err != nil {
		return nil, err
	}
	watchdog := time.AfterFunc(bootLimit, func() { _ = qemu.Process.Kill() })
	waited := qemu.Wait()
	stuck := !watchdog.Stop()
	m.RunSeconds = time.Since(began).Seconds()
	log := console.String()
	if err := os.WriteFile(filepath.Join(c.out, name+".console"), console.Bytes(), 0o644); err != nil {
		return nil, err
	}
	if stuck {
		return nil, fmt.Errorf("%w within %v, or not to its end: QEMU: %s; its console's end: %s", errNotBooted, bootLimit, bytes.TrimSpace(said.Bytes()), tail(log, 500))
	}
	if !strings.Contains(log, "boot step") {
		return nil, fmt.Errorf("%w: QEMU: %v: %s", errNotBooted, waited, bytes.TrimSpace(said.Bytes()))
	}

	has := func(check, detail string, lines ...string) {
		m.verdict(check, detail, func() error {
			for _, line := range lines {
				if !strings.Contains(log, line) {
					return fmt.Errorf("its console lacks %q: %s", line, tail(log, 2000))
				}
			}
			return nil
		})
	}
	has("example/boot", "as process 1 of an image without anything else", `msg="boot step done" step=mount`, "step=modules", "step=loopback", "step=entropy", "step=clock", "step=heartbeat")
	m.verdict("example/heartbeat", "arrived at the host", func() error {
		if n := w.beats.Load(); n != 1 {
			return fmt.Errorf("%d arrived, want 1", n)
		}
		return nil
	})
	has("example/measured", "the NSM's PCRs 0 to 2 are those that the image program printed",
		"PCR0="+expected.PCRs[0].String(), "PCR1="+expected.PCRs[1].String(), "PCR2="+expected.PCRs[2].String())
	for _, pcr := range loggedPCR.FindAllStringSubmatch(log, -1) {
		m.Facts[pcr[1]] = pcr[2]
	}
	m.judgeImage(ctx, i.attest, file)
	has("example/fails-closed", "no secret without KMS's certificate; the enclave ends", `msg="the enclave ends"`, "no secret was released", "channel", "certificate signed by unknown authority")
	m.verdict("example/kms", "KMS's stand-in was told nothing", func() error {
		for _, r := range w.kms.Requests() {
			if r.Recipient {
				return errors.New("a document was sent to who isn't KMS")
			}
		}
		return nil
	})
	return m, nil
}

// loggedPCR is a register in the log of the example's service, as its NSM has it.
var loggedPCR = regexp.MustCompile(`\b(PCR[0-2])=([0-9a-f]{96})\b`)

// exampleImage builds the image with the programs of examples/enclave, and returns
// what they print.
func (c *config) exampleImage(ctx context.Context, dir, file string, i *images) (attestation.Measurement, error) {
	var none attestation.Measurement
	for _, program := range []string{"enclave", "enclave/image"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, filepath.Base(program)), module+"/examples/"+program)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := cmd.CombinedOutput(); err != nil {
			return none, fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	at := func(port uint32) string { return vsockproxy.Vsock(e2e.HostCID, port).String() }
	config, err := json.Marshal(service.Config{
		Region: region, KeyARN: "arn:aws:kms:" + region + ":111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", Sealed: []byte("sealed"),
		KMS: at(e2e.ProxyPort), Metadata: at(metadataPort), Heartbeat: at(e2e.BeatPort), Listen: vsockproxy.Vsock(vsockproxy.AnyCID, e2e.ServicePort).String(),
	})
	if err != nil {
		return none, err
	}
	configFile := filepath.Join(dir, "config.json")
	if err := os.WriteFile(configFile, config, 0o600); err != nil {
		return none, err
	}
	rate, err := tscKHz()
	if err != nil {
		return none, err
	}
	arguments := []string{
		"-kernel", i.kernel, "-program", filepath.Join(dir, "enclave"), "-config", configFile,
		"-cmdline", fmt.Sprintf("console=ttyS0 quiet reboot=k panic=30 random.trust_cpu=off tsc_early_khz=%d", rate),
	}
	for _, name := range []string{"virtio_mmio", "nsm", "vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"} {
		arguments = append(arguments, "-module", c.part("kernel/modules/"+name+".ko"))
	}
	var printed [2][]byte
	again := filepath.Join(dir, "again.eif")
	for n, file := range []string{file, again} { // twice, to see that it is the same
		printed[n], err = exec.CommandContext(ctx, filepath.Join(dir, "image"), append(arguments, "-o", file)...).Output()
		if err != nil {
			return none, fmt.Errorf("the program image: %w", err)
		}
	}
	if err := sameFile(file, again); err != nil {
		return none, err
	}
	if !bytes.Equal(printed[0], printed[1]) {
		return none, errors.New("two builds of the example's image are measured differently")
	}
	return attestation.ParseMeasurement(printed[0])
}

func sameFile(a, b string) error {
	first, err := os.ReadFile(a)
	if err != nil {
		return err
	}
	second, err := os.ReadFile(b)
	if err != nil {
		return err
	}
	if !bytes.Equal(first, second) {
		return errors.New("two builds of the example's image differ")
	}
	return nil
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }
