//go:build !windows

package vsockproxy

import "syscall"

// errnoReasons classifies what connect(2), bind(2) and socket(2) answer.
// AF_VSOCK answers ECONNRESET where TCP answers ECONNREFUSED, because the peer's
// kernel rejects the request with a reset packet.
var errnoReasons = map[syscall.Errno]Reason{
	syscall.ECONNREFUSED:    ReasonRefused,
	syscall.ECONNRESET:      ReasonRefused,
	syscall.ENODEV:          ReasonUnreachable,
	syscall.EADDRNOTAVAIL:   ReasonUnreachable,
	syscall.ENETUNREACH:     ReasonUnreachable,
	syscall.EHOSTUNREACH:    ReasonUnreachable,
	syscall.EHOSTDOWN:       ReasonUnreachable,
	syscall.ETIMEDOUT:       ReasonTimeout,
	syscall.EADDRINUSE:      ReasonInUse,
	syscall.EAFNOSUPPORT:    ReasonUnsupported,
	syscall.EPROTONOSUPPORT: ReasonUnsupported,
	syscall.ESOCKTNOSUPPORT: ReasonUnsupported,
}

// listenerIsBroken holds the answers of accept(2) that speak of the listening
// socket itself. Every other errno speaks of one connection or of a shortage
// that will pass (accept(2), "Error handling").
var listenerIsBroken = map[syscall.Errno]bool{
	syscall.EBADF:    true,
	syscall.EFAULT:   true,
	syscall.EINVAL:   true,
	syscall.ENOTSOCK: true,
}
