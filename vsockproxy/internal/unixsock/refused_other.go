//go:build !windows

package unixsock

import "syscall"

// refused is what connect(2) answers if nobody listens on the socket.
const refused = syscall.ECONNREFUSED
