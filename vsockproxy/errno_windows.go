package vsockproxy

import (
	"syscall"

	"golang.org/x/sys/windows"
)

// errnoReasons classifies what Winsock answers: its codes differ from the POSIX
// names in package syscall.
var errnoReasons = map[syscall.Errno]Reason{
	windows.WSAECONNREFUSED:  ReasonRefused,
	windows.WSAECONNRESET:    ReasonRefused,
	windows.WSAEADDRNOTAVAIL: ReasonUnreachable,
	windows.WSAENETUNREACH:   ReasonUnreachable,
	windows.WSAEHOSTUNREACH:  ReasonUnreachable,
	windows.WSAETIMEDOUT:     ReasonTimeout,
	windows.WSAEADDRINUSE:    ReasonInUse,
	windows.WSAEAFNOSUPPORT:  ReasonUnsupported,
}

// listenerIsBroken holds the answers of accept that speak of the listening
// socket itself; every other one passes.
var listenerIsBroken = map[syscall.Errno]bool{
	windows.WSAEBADF:    true,
	windows.WSAEFAULT:   true,
	windows.WSAEINVAL:   true,
	windows.WSAENOTSOCK: true,
}
