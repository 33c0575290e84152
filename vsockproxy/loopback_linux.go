package vsockproxy

import (
	"os"

	"golang.org/x/sys/unix"
)

// loopbackName is what Linux calls the loopback interface of every network
// namespace.
const loopbackName = "lo"

// LoopbackUp brings up the loopback interface, which is down when Linux starts, in
// an enclave as anywhere: until somebody has done so, nothing can connect to
// 127.0.0.1. The kernel gives it 127.0.0.1 and ::1 by itself. Where the interface is
// up, there is nothing to do and nothing needed; bringing it up needs root or
// CAP_NET_ADMIN.
//
// An error is an *Error with Op "loopback". Systems other than Linux bring the
// interface up themselves; if one has not, the error is errors.ErrUnsupported.
func LoopbackUp() error {
	fail := func(doing string, err error) error {
		reason := reasonOf(err)
		advice := "cannot " + doing + " of the interface lo"
		if reason == ReasonPermission {
			advice += "; run as root or with CAP_NET_ADMIN, or let the init of the enclave do it"
		}
		return &Error{Op: "loopback", Reason: reason, Detail: advice, Err: err}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail("open a socket to ask for the flags", os.NewSyscallError("socket", err))
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(loopbackName)
	if err != nil {
		return fail("ask for the flags", err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fail("read the flags", os.NewSyscallError("ioctl SIOCGIFFLAGS", err))
	}
	flags := req.Uint16()
	if flags&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(flags | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fail("set the flags", os.NewSyscallError("ioctl SIOCSIFFLAGS", err))
	}
	return nil
}
