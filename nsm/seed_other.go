//go:build !linux

package nsm

import (
	"errors"
	"runtime"
)

func creditKernel([]byte) error {
	return &Error{Reason: ReasonUnsupported, Detail: "this is " + runtime.GOOS + ", and only Linux takes randomness in this way", Err: errors.ErrUnsupported}
}
