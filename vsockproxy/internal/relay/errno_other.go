//go:build !windows

package relay

import "syscall"

// connReset is what a read answers after the peer has reset the connection.
const connReset = syscall.ECONNRESET
