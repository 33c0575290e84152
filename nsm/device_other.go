//go:build !linux

package nsm

import "runtime"

// OpenDevice opens the Nitro Secure Module as a bare [Device]. On this
// operating system there is none, so it always fails with
// [ReasonNoDevice]: enclaves run Linux.
func OpenDevice() (Device, error) {
	return nil, &Error{
		Op: "Open", Reason: ReasonNoDevice,
		Detail: "this is " + runtime.GOOS + ", and Nitro Enclaves run Linux: build for linux and run inside one; for tests outside an enclave use the package nsmtest",
	}
}
