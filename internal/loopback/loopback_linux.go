package loopback

import (
	"os"

	"golang.org/x/sys/unix"
)

// name is what Linux calls the loopback interface of every network namespace.
const name = "lo"

// Up brings up the loopback interface. The kernel gives it 127.0.0.1 and ::1 by
// itself. An interface that is up needs nothing; bringing it up needs root or
// CAP_NET_ADMIN. The error is an *[Error].
func Up() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &Error{"open a socket to ask for the flags of the interface lo", os.NewSyscallError("socket", err)}
	}
	defer func() { _ = unix.Close(fd) }()
	req, err := unix.NewIfreq(name)
	if err != nil {
		return &Error{"ask for the flags of the interface lo", err}
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return &Error{"read the flags of the interface lo", os.NewSyscallError("ioctl SIOCGIFFLAGS", err)}
	}
	flags := req.Uint16()
	if flags&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(flags | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return &Error{"set the flags of the interface lo", os.NewSyscallError("ioctl SIOCSIFFLAGS", err)}
	}
	return nil
}
