package nsmtest

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

func code(err error) nsm.Code {
	var e *nsm.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestMeasurements(t *testing.T) {
	a0, a1, a2 := Measure([]byte("image"))
	b0, b1, b2 := Measure([]byte("other"))
	seen := map[[48]byte]bool{{}: true}
	for _, pcr := range [][48]byte{a0, a1, a2, b0, b1, b2} {
		if seen[pcr] {
			t.Errorf("%v is zero or not its own", pcr)
		}
		seen[pcr] = true
	}
	n := newNSM(t, Options{Image: []byte("image"), RoleARN: "arn", InstanceID: "i-1"})
	for i, want := range [][48]byte{a0, a1, a2, extend([48]byte{}, []byte("arn")), extend([48]byte{}, []byte("i-1")), {}} {
		if n.PCR(i) != want {
			t.Errorf("PCR%d is %v, want %x", i, n.PCR(i), want)
		}
	}
	debug := newNSM(t, Options{Image: []byte("image"), Debug: true, InstanceID: "i-1"})
	for i := range 4 {
		if debug.PCR(i) != [48]byte{} {
			t.Errorf("debug: PCR%d is %v", i, debug.PCR(i))
		}
	}
	if debug.PCR(4) != n.PCR(4) || debug.PCR(-1) != [48]byte{} || debug.PCR(NumPCRs) != [48]byte{} {
		t.Error("debug: PCR4, or a PCR that is none")
	}
}

// Measure's rule is that of real images, here for one without a second ramdisk,
// whose PCR2 is well known.
func TestMeasureRule(t *testing.T) {
	pcr0, _, _ := Measure(nil)
	want := unhex(t, "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a")
	if string(pcr0[:]) != string(want) {
		t.Errorf("%v", pcr0)
	}
}

func TestModuleID(t *testing.T) {
	n := newNSM(t, Options{})
	if !regexp.MustCompile(`^i-[0-9a-f]{17}-enc[0-9a-f]{16}$`).MatchString(n.ModuleID()) {
		t.Errorf("%q", n.ModuleID())
	}
	if n := newNSM(t, Options{ModuleID: "i-7-enc8"}); n.ModuleID() != "i-7-enc8" || n.PCR(4) != extend([48]byte{}, []byte("i-7")) {
		t.Errorf("%q, PCR4 %v", n.ModuleID(), n.PCR(4))
	}
	for _, opts := range []Options{{ModuleID: strings.Repeat("m", 129)}, {InstanceID: strings.Repeat("i", 129)}} {
		n, err := New(opts)
		var e *Error
		if !errors.As(err, &e) || e.Reason != ReasonInvalidOptions || n != nil {
			t.Errorf("%v, %v", n, err)
		}
	}
}

func TestPCRRules(t *testing.T) {
	ctx := context.Background()
	n := newNSM(t, Options{})
	s := nsm.NewSession(n)
	d, err := s.Describe(ctx)
	if err != nil || d.MaxPCRs != 32 || len(d.LockedPCRs) != 16 || d.Digest != "SHA384" || d.ModuleID != n.ModuleID() || d.VersionMajor != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	for i := range NumPCRs {
		pcr, err := s.DescribePCR(ctx, i)
		if want := n.PCR(i); err != nil || pcr.Index != i || pcr.Locked != (i < 16) || pcr.Value != want {
			t.Errorf("%+v, %v", pcr, err)
		}
	}
	want := extend([48]byte{}, []byte("data"))
	if got, err := s.ExtendPCR(ctx, 16, []byte("data")); err != nil || got != want || n.PCR(16) != want {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	want = extend(want, nil)
	if got, err := s.ExtendPCR(ctx, 16, nil); err != nil || got != want {
		t.Errorf("%x, %v; want %x", got, err, want)
	}
	for _, tt := range []struct {
		name string
		err  func() error
		want nsm.Code
	}{
		{"extend 0", func() error { _, err := s.ExtendPCR(ctx, 0, nil); return err }, nsm.CodeReadOnlyIndex},
		{"extend 32", func() error { _, err := s.ExtendPCR(ctx, 32, nil); return err }, nsm.CodeInvalidIndex},
		{"lock 15", func() error { return s.LockPCR(ctx, 15) }, nsm.CodeReadOnlyIndex},
		{"lock 16", func() error { return s.LockPCR(ctx, 16) }, ""},
		{"lock 16 again", func() error { return s.LockPCR(ctx, 16) }, nsm.CodeReadOnlyIndex},
		{"extend 16", func() error { _, err := s.ExtendPCR(ctx, 16, nil); return err }, nsm.CodeReadOnlyIndex},
		{"lock 32", func() error { return s.LockPCR(ctx, 32) }, nsm.CodeInvalidIndex},
		{"describe 32", func() error { _, err := s.DescribePCR(ctx, 32); return err }, nsm.CodeInvalidIndex},
		{"describe 300", func() error { _, err := s.DescribePCR(ctx, 300); return err }, nsm.CodeInvalidOperation},
		{"lock 33 PCRs", func() error { return s.LockPCRs(ctx, 33) }, nsm.CodeInvalidIndex},
		{"lock 20 PCRs", func() error { return s.LockPCRs(ctx, 20) }, ""},
		{"extend 19", func() error { _, err := s.ExtendPCR(ctx, 19, nil); return err }, nsm.CodeReadOnlyIndex},
		{"extend 20", func() error { _, err := s.ExtendPCR(ctx, 20, nil); return err }, ""},
		{"lock 32 PCRs", func() error { return s.LockPCRs(ctx, 32) }, ""},
		{"extend 31", func() error { _, err := s.ExtendPCR(ctx, 31, nil); return err }, nsm.CodeReadOnlyIndex},
	} {
		if err := tt.err(); code(err) != tt.want || (err == nil) != (tt.want == "") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if pcrs := payloadOf(t, attest(t, n, nsm.AttestationRequest{}))["pcrs"].(map[any]any); len(pcrs) != 32 {
		t.Errorf("%d PCRs in the document, want all 32", len(pcrs))
	}
}

func TestDriverErrors(t *testing.T) {
	n := newNSM(t, Options{})
	for _, size := range []int{0, nsm.MaxRequestSize + 1} {
		response, err := n.Send(make([]byte, size))
		if !errors.Is(err, syscall.EMSGSIZE) || code(err) != nsm.CodeInputTooLarge || response != nil {
			t.Errorf("%d bytes: %x, %v", size, response, err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if response, err := n.Send([]byte{0}); !errors.Is(err, nsm.ReasonClosed) || response != nil {
		t.Errorf("closed: %x, %v", response, err)
	}
}

func TestRandomness(t *testing.T) {
	s := nsm.NewSession(newNSM(t, Options{}))
	a, b := make([]byte, 1000), make([]byte, 1000)
	for _, p := range [][]byte{a, b} {
		if n, err := s.Read(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if string(a) == string(b) || string(a[:256]) == string(a[256:512]) {
		t.Error("the same twice")
	}
}

func TestConcurrentUse(t *testing.T) {
	n := newNSM(t, Options{EditDocument: func(*Document) {}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s := nsm.NewSession(n)
			if _, err := s.Attest(t.Context(), nsm.AttestationRequest{}); err != nil {
				t.Error(err)
			}
			if _, err := s.ExtendPCR(t.Context(), 16+i, []byte{1}); err != nil {
				t.Error(err)
			}
			if err := s.LockPCR(t.Context(), 16+i); err != nil {
				t.Error(err)
			}
			n.PCR(i)
			if _, err := n.Chain(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestClockOfThePKI(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	pki, err := NewPKI(PKIOptions{Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	p := payloadOf(t, attest(t, newNSM(t, Options{PKI: pki}), nsm.AttestationRequest{}))
	if p["timestamp"].(uint64) != uint64(now.UnixMilli()) {
		t.Errorf("%v", p["timestamp"])
	}
}
