//go:build !linux

package nsm

import "runtime"

// OpenDevice opens the Nitro Secure Module as a bare [Device]. On this
// operating system there is none, so it always fails with an error that wraps
// [ErrNoDevice]: enclaves run Linux.
func OpenDevice() (Device, error) {
	return nil, &Error{
		Op: "Open", Reason: ReasonNoDevice, Err: ErrNoDevice,
		Detail: "this is " + runtime.GOOS + ", and Nitro Enclaves run Linux; for tests use the package nsmtest",
	}
}
