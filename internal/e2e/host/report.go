package main

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/e2e"
)

// report is the outcome of a run, as report.json has it.
type report struct {
	Started      time.Time  `json:"started"`
	Go           string     `json:"go"`
	Source       string     `json:"source"` // the commit that was tested
	Versions     []string   `json:"versions"`
	BuildSeconds float64    `json:"build_seconds"`
	Machines     []*machine `json:"machines"`
}

// machine is the outcome on one machine.
type machine struct {
	Name string `json:"name"`
	// Tries is 2 if it came up at the second try only, and 0 if it never did.
	Tries int `json:"tries"`
	// BootSeconds is from the start of QEMU to the guest's first line, if it
	// reports, and RunSeconds to the end.
	BootSeconds float64           `json:"boot_seconds"`
	RunSeconds  float64           `json:"run_seconds"`
	Facts       map[string]string `json:"facts"`
	// PCRs are those that attestation/eif computed when it wrote the image; none for
	// a PC.
	PCRs     map[int]attestation.PCR `json:"-"`
	Checks   []e2e.Check             `json:"checks"`
	QEMUSaid string                  `json:"qemu_said,omitempty"`

	ended, complete bool
}

func (m *machine) add(c e2e.Check) { m.Checks = append(m.Checks, c) }

func (m *machine) fail(name string, err error) {
	m.add(e2e.Check{Name: name, Result: e2e.Failed, Detail: err.Error()})
}

// verdict adds a check of the host's.
func (m *machine) verdict(name, detail string, check func() error) {
	if err := check(); err != nil {
		m.fail(name, fmt.Errorf("%w (%s)", err, detail))
		return
	}
	m.add(e2e.Check{Name: name, Result: e2e.Passed, Detail: detail})
}

// judge compares what the guest reported with what was expected of it.
func (m *machine) judge(exchanges int, recorded error) {
	m.verdict("host/report", "complete", func() error {
		switch {
		case !m.ended:
			return errors.New("the guest died on the way; see its console")
		case !m.complete:
			return errors.New("lines of the guest's report are missing")
		}
		return nil
	})
	m.verdict("host/recording", fmt.Sprintf("%d exchanges", exchanges), func() error { return recorded })

	want := map[int]attestation.PCR{}
	detail := "this machine measures nothing: PCRs 0 to 4 are zero"
	for index := range 5 {
		want[index] = attestation.PCR{}
	}
	if m.Name == machineNitro {
		detail = "PCRs 0 to 2 of the NSM are those that attestation/eif computed of the image; PCR3 is the role's, PCR4 the instance's"
		maps.Copy(want, m.PCRs)
		want[3], want[4] = attestation.RolePCR(roleARN), attestation.InstancePCR(instanceID)
	}
	m.verdict("host/pcrs", detail, func() error {
		var errs []error
		for index := range 5 {
			name := fmt.Sprintf("PCR%d", index)
			if got := m.Facts[name]; got != want[index].String() {
				errs = append(errs, fmt.Errorf("%s is %q, want %s", name, got, want[index]))
			}
		}
		return errors.Join(errs...)
	})
}

// judgeImage has the program attest measure the image that was booted, which stays in
// the folder of the reports, and compares that with what the NSM said in the guest.
func (m *machine) judgeImage(ctx context.Context, attest, file string) {
	m.verdict("host/attest-measure", "attest measure of "+filepath.Base(file)+" gives the PCRs of the guest", func() error {
		out, err := exec.CommandContext(ctx, attest, "measure", "--json", file).Output()
		if err != nil {
			return err
		}
		measured, err := attestation.ParseMeasurement(out)
		if err != nil {
			return err
		}
		for index := range 3 {
			name := fmt.Sprintf("PCR%d", index)
			if got, want := m.Facts[name], measured.PCRs[index].String(); got != want {
				return fmt.Errorf("%s is %q in the guest, and %s by attest measure", name, got, want)
			}
		}
		return nil
	})
}

func extend(pcr attestation.PCR, data []byte) attestation.PCR {
	return sha512.Sum384(slices.Concat(pcr[:], data))
}

func (r *report) count() (passed, failed, skipped int) {
	for _, m := range r.Machines {
		for _, c := range m.Checks {
			switch c.Result {
			case e2e.Passed:
				passed++
			case e2e.Skipped:
				skipped++
			default:
				failed++
			}
		}
	}
	return passed, failed, skipped
}

// print writes a machine's outcome for people.
func (m *machine) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s: ", m.Name)
	if m.BootSeconds > 0 {
		fmt.Fprintf(w, "up in %.1f s, ", m.BootSeconds)
	}
	fmt.Fprintf(w, "done in %.1f s", m.RunSeconds)
	if m.Tries > 1 {
		fmt.Fprintf(w, ", at try %d", m.Tries)
	}
	fmt.Fprintln(w)
	for _, name := range slices.Sorted(maps.Keys(m.Facts)) {
		if name != "vsockproxy's tests" {
			fmt.Fprintf(w, "     %s: %s\n", name, m.Facts[name])
		}
	}
	for _, c := range m.Checks {
		fmt.Fprintf(w, "%s  %-32s %6d ms  %s\n", c.Result, c.Name, c.Millis, strings.ReplaceAll(c.Detail, "\n", "\n      "))
	}
	if m.QEMUSaid != "" {
		fmt.Fprintf(w, "     QEMU: %s\n", m.QEMUSaid)
	}
}

// write keeps the report in a folder, for people and for programs.
func (r *report) write(folder string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "End-to-end test of %s, %s, source %s\n", r.Started.Format(time.RFC3339), r.Go, r.Source)
	for _, v := range r.Versions {
		fmt.Fprintln(&b, "    ", v)
	}
	for _, m := range r.Machines {
		m.print(&b)
	}
	passed, failed, skipped := r.count()
	fmt.Fprintf(&b, "\n%d passed, %d failed, %d skipped\n%s", passed, failed, skipped, notReal)
	return errors.Join(
		os.WriteFile(filepath.Join(folder, "report.json"), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(folder, "report.txt"), []byte(b.String()), 0o644))
}

// notReal says how things were arranged, whatever came of it.
const notReal = `
The NSM is QEMU's. Its documents are unsigned, and have to be refused as they are:
attestation/unsigned-refused, keyrelease/unsigned-document. Wherever a document had to
be believed, the values that the device wrote into it were signed by a root of this
test's own, in the place of AWS's. KMS is the stand-in of kmsclient/kmstest. The program
of examples/keyrelease was built with the tag keyvouch_e2e, by which it takes these for AWS's;
built without, it has to refuse them: keyrelease/program-as-shipped. There is no
hypervisor's clock here: that it is missed is tested, and the guest's clock was set to
the host's for this test.
`
