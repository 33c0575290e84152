//go:build !linux

package boot

import (
	"errors"
	"runtime"
	"time"
)

func unsupported(step Step) *Error {
	return &Error{Step: step, Detail: "this is " + runtime.GOOS + ", and enclaves run Linux", Err: errors.ErrUnsupported}
}

// Mount is for Linux, and fails elsewhere with errors.ErrUnsupported.
func Mount() error { return mountBelow("/") }

func mountBelow(string) error { return unsupported(StepMount) }

// LoadModules is for Linux, and fails elsewhere with errors.ErrUnsupported.
func LoadModules(...string) error { return unsupported(StepModules) }

// SetClock is for Linux, and fails elsewhere with errors.ErrUnsupported.
func SetClock() (moved time.Duration, err error) { return setClock("/") }

func setClock(string) (time.Duration, error) { return 0, unsupported(StepClock) }
