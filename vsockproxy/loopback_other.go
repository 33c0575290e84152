//go:build !linux

package vsockproxy

import (
	"errors"
	"net"
	"runtime"
)

// LoopbackUp makes sure that the loopback interface is up. On this system, which
// does that itself, it only looks; see its documentation for Linux. An error is an
// *Error with Op "loopback", and errors.ErrUnsupported if the interface is down.
func LoopbackUp() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return &Error{Op: "loopback", Reason: reasonOf(err), Detail: "cannot list the network interfaces", Err: err}
	}
	const want = net.FlagLoopback | net.FlagUp
	for _, i := range interfaces {
		if i.Flags&want == want {
			return nil
		}
	}
	return &Error{Op: "loopback", Reason: ReasonUnsupported, Detail: "no loopback interface is up, and on " + runtime.GOOS + " this package cannot change that", Err: errors.ErrUnsupported}
}
