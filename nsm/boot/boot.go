package boot

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/keyvouch/keyvouch/internal/errtext"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// Reason says which boot duty failed. The strings are stable.
type Reason string

// Error returns the word itself, so that errors.Is(err, ReasonClock) asks whether an
// [Error] has that Reason.
func (r Reason) Error() string { return string(r) }

// The duties, in the order in which [Run] takes them.
const (
	ReasonMount     Reason = "mount"
	ReasonModules   Reason = "modules"
	ReasonLoopback  Reason = "loopback"
	ReasonEntropy   Reason = "entropy"
	ReasonClock     Reason = "clock"
	ReasonHeartbeat Reason = "heartbeat"
)

// ReasonNoClock: the hypervisor offers no clock. [Run] only logs it.
const ReasonNoClock Reason = "no-clock"

// Error is the error of every function of this package.
type Error struct {
	// Op is the function that failed, such as "Run" or "Heartbeat".
	Op string
	// Reason is the duty that failed, or [ReasonNoClock].
	Reason Reason
	// Field is the file, device or endpoint, if there is one.
	Field string
	// Detail says for people what was wrong and what to do about it. It is empty where
	// Err says it all.
	Detail string
	// Err is the cause: of an *nsm.Error, a *vsockproxy.Error, an *fs.PathError or a
	// syscall.Errno, or errors.ErrUnsupported.
	Err error
}

// Error returns one line: "boot: Op: reason: field: detail: cause".
func (e *Error) Error() string {
	return errtext.Join("boot", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// named puts the function into an error that was made without knowing it.
func named(op string, err error) error {
	if e, ok := err.(*Error); ok && e.Op == "" {
		e.Op = op
	}
	return err
}

// Options say how [Run] does it. The zero value is right for an enclave whose kernel
// has the NSM's driver built in, or whose image is made by nitro-cli build-enclave.
type Options struct {
	// Modules are paths of kernel modules that process 1 loads, in this order: files
	// .ko that are not compressed. See [LoadModules].
	Modules []string

	// Session is the NSM that gives the randomness. Nil means to open /dev/nsm, and to
	// close it again.
	Session *nsm.Session

	// Heartbeat is where process 1 sends the heartbeat. The zero Endpoint stands for
	// where nitro-cli waits, as in [Heartbeat].
	Heartbeat vsockproxy.Endpoint

	// Logger is told of each step. Nil means no logs.
	Logger *slog.Logger
}

// Run does an enclave's boot duties, as the package documentation lists them, and
// stops at the first that fails. Errors are *Error. It is no error that the hypervisor
// offers no clock; the log says so.
//
// Run is not for concurrent use. The context ends it where it waits, for the NSM or
// for the parent.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, os.Getpid() == 1, "/")
}

// heartbeatSent is true once process 1 has sent it. There is one process 1, and after
// the first heartbeat nobody waits for another.
var heartbeatSent atomic.Bool

// run is Run for a process that is the first or not. Root is where to mount, and to
// look for the clock.
func run(ctx context.Context, o Options, first bool, root string) error {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, step := range []struct {
		name  Reason
		first bool // for process 1 only
		do    func() error
	}{
		{ReasonMount, true, func() error { return mountBelow(root) }},
		{ReasonModules, true, func() error { return LoadModules(o.Modules...) }},
		{ReasonLoopback, false, LoopbackUp},
		{ReasonEntropy, false, func() error { return seed(ctx, o.Session) }},
		{ReasonClock, false, func() error { return adjustClock(log, root) }},
		{ReasonHeartbeat, true, func() error { return beat(ctx, o.Heartbeat) }},
	} {
		if step.first && !first {
			log.Debug("boot step skipped: not process 1", "step", step.name)
			continue
		}
		began := time.Now()
		if err := step.do(); err != nil {
			var own *Error
			if !errors.As(err, &own) {
				own = &Error{Op: "Run", Reason: step.name, Err: err}
			}
			_ = named("Run", own)
			log.Error("boot step failed", "step", step.name, "error", own)
			return own
		}
		log.Info("boot step done", "step", step.name, "duration", time.Since(began))
	}
	return nil
}

func seed(ctx context.Context, session *nsm.Session) error {
	if session == nil {
		opened, err := nsm.Open()
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close() }()
		session = opened
	}
	return session.SeedKernel(ctx)
}

func adjustClock(log *slog.Logger, root string) error {
	moved, err := setClock(root)
	switch {
	case errors.Is(err, ReasonNoClock):
		log.Warn("the clock stays as it is", "error", err)
		return nil
	case err != nil:
		return err
	}
	log.Info("the clock is the hypervisor's", "moved", moved)
	return nil
}

func beat(ctx context.Context, e vsockproxy.Endpoint) error {
	if heartbeatSent.Load() {
		return nil
	}
	if err := Heartbeat(ctx, e); err != nil {
		return err
	}
	heartbeatSent.Store(true)
	return nil
}
