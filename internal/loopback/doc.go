// Package loopback brings up the loopback interface, which is down when Linux starts
// an enclave.
package loopback

// Error is the error of [Up].
type Error struct {
	// Doing says what failed.
	Doing string
	// Err is the cause: a system call's error, or errors.ErrUnsupported.
	Err error
}

// Error returns what failed, and the cause.
func (e *Error) Error() string { return "loopback: cannot " + e.Doing + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
