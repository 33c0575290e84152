package boot

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

func softwareNSM(t *testing.T) *nsm.Session {
	t.Helper()
	device, err := nsmtest.New(nsmtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func wantStep(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("%T %v, want an error of step %s", err, err, want)
	}
	if !strings.HasPrefix(err.Error(), "boot: "+e.Op+": "+string(want)+": ") || e.Op == "" {
		t.Errorf("%q does not begin with function and reason", err)
	}
	return e
}

// Outside an enclave Run says what is missing, and has mounted nothing and sent
// nothing.
func TestRunOutsideAnEnclave(t *testing.T) {
	if session, err := nsm.Open(); err == nil {
		_ = session.Close()
		t.Skip("this is an enclave")
	}
	var log bytes.Buffer
	err := Run(t.Context(), Options{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	wantStep(t, err, ReasonEntropy)
	if !errors.Is(err, nsm.ReasonNoDevice) {
		t.Errorf("%v is not %v", err, nsm.ReasonNoDevice)
	}
	for _, line := range []string{"skipped: not process 1\" step=mount", "skipped: not process 1\" step=modules", "done\" step=loopback", "failed\" step=entropy"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log has no %q:\n%s", line, log.String())
		}
	}
	if strings.Contains(log.String(), "clock") {
		t.Errorf("steps after the one that failed:\n%s", log.String())
	}
}

func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := run(ctx, Options{Session: softwareNSM(t)}, false, t.TempDir())
	wantStep(t, err, ReasonEntropy)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not %v", err, context.Canceled)
	}
}
