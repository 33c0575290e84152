//go:build !linux

package boot

import (
	"errors"
	"runtime"
	"time"
)

func unsupported(op string, step Reason) *Error {
	return &Error{Op: op, Reason: step, Detail: "this is " + runtime.GOOS + ", and enclaves run Linux", Err: errors.ErrUnsupported}
}

// Mount is for Linux, and fails elsewhere with errors.ErrUnsupported.
func Mount() error { return mountBelow("/") }

func mountBelow(string) error { return unsupported("Mount", ReasonMount) }

// LoadModules is for Linux, and fails elsewhere with errors.ErrUnsupported.
func LoadModules(...string) error { return unsupported("LoadModules", ReasonModules) }

// SetClock is for Linux, and fails elsewhere with errors.ErrUnsupported.
func SetClock() (moved time.Duration, err error) { return setClock("/") }

func setClock(string) (time.Duration, error) { return 0, unsupported("SetClock", ReasonClock) }
