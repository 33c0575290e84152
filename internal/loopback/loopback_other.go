//go:build !linux

package loopback

import (
	"errors"
	"net"
	"runtime"
)

// Up only looks whether a loopback interface is up: this system brings it up by
// itself. If none is, the error wraps errors.ErrUnsupported.
func Up() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return &Error{"list the network interfaces", err}
	}
	const want = net.FlagLoopback | net.FlagUp
	for _, i := range interfaces {
		if i.Flags&want == want {
			return nil
		}
	}
	return &Error{"bring up a loopback interface on " + runtime.GOOS, errors.ErrUnsupported}
}
