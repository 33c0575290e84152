package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kvmClock is the name of the one kind of clock that is taken (drivers/ptp/ptp_kvm_common.c):
// it counts UTC. Others, those of network cards, count what somebody sets them to.
const kvmClock = "KVM virtual PTP"

// earliest is before every enclave: a clock that is earlier has not been set.
var earliest = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)

// SetClock sets the system's clock once to the one that the hypervisor offers, and
// returns by how much that moved it, forward or, if negative, back. The package
// documentation says how far that time can be trusted. It is accurate to some
// microseconds.
//
// Errors are *Error; one with [ReasonNoClock] means that there is no such clock, and
// the system's stays as it is. It needs root or CAP_SYS_TIME, and /sys and /dev.
func SetClock() (moved time.Duration, err error) { return setClock("/") }

func setClock(root string) (moved time.Duration, err error) {
	now, err := readClock(root)
	if err != nil {
		return 0, err
	}
	moved = time.Until(time.Unix(now.Unix()))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		e := &Error{Op: "SetClock", Reason: ReasonClock, Err: os.NewSyscallError("clock_settime", err)}
		if errors.Is(err, fs.ErrPermission) {
			e.Detail = "run as root or with CAP_SYS_TIME, or let the init of the enclave do it"
		}
		return 0, e
	}
	return moved, nil
}

// readClock reads the hypervisor's clock.
func readClock(root string) (now unix.Timespec, err error) {
	f, err := openClock(root)
	if err != nil {
		return now, err
	}
	defer func() { _ = f.Close() }()
	// An open clock device is a clock (clock_gettime(2), "Dynamic clocks").
	if err := unix.ClockGettime(unix.FdToClockID(int(f.Fd())), &now); err != nil {
		return now, &Error{Op: "SetClock", Reason: ReasonClock, Err: &fs.PathError{Op: "clock_gettime", Path: f.Name(), Err: err}}
	}
	if t := time.Unix(now.Unix()); t.Before(earliest) {
		return now, &Error{Op: "SetClock", Reason: ReasonClock, Detail: fmt.Sprintf("the hypervisor's clock says %v, so nobody has set it", t.UTC())}
	}
	return now, nil
}

// openClock finds the hypervisor's clock among those that sysfs lists.
func openClock(root string) (*os.File, error) {
	class := filepath.Join(root, "sys/class/ptp")
	names, err := filepath.Glob(filepath.Join(class, "*", "clock_name"))
	if err != nil {
		return nil, &Error{Op: "SetClock", Reason: ReasonClock, Err: err}
	}
	var others []string
	for _, path := range names {
		b, err := os.ReadFile(path)
		name := strings.TrimSpace(string(b))
		if err != nil || name != kvmClock {
			others = append(others, name)
			continue
		}
		f, err := os.Open(filepath.Join(root, "dev", filepath.Base(filepath.Dir(path))))
		if err != nil {
			e := &Error{Op: "SetClock", Reason: ReasonClock, Detail: "the kernel has the hypervisor's clock, and its device cannot be opened", Err: err}
			if errors.Is(err, fs.ErrNotExist) {
				e.Detail += "; mount devtmpfs on /dev"
			}
			return nil, e
		}
		return f, nil
	}
	detail := fmt.Sprintf("%s lists no %q; it takes a kernel with CONFIG_PTP_1588_CLOCK_KVM, and /sys", class, kvmClock)
	if len(others) > 0 {
		detail += fmt.Sprintf(", and not %q", others)
	}
	return nil, &Error{Op: "SetClock", Reason: ReasonNoClock, Detail: detail}
}
