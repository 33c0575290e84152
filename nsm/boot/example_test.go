package boot_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"os"

	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/boot"
)

// The beginning of a program for an enclave, in an image of nitro-cli build-enclave or
// as its init.
func ExampleRun() {
	err := boot.Run(context.Background(), boot.Options{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		// Only if the kernel has the NSM's driver as a module, and this is the init:
		// Modules: []string{"/nsm.ko"},
	})
	switch {
	// An enclave without the NSM's driver gives this error, too: a process 1 is one.
	// In an image of nitro-cli, where another process is first, leave this case out.
	case errors.Is(err, nsm.ReasonNoDevice) && os.Getpid() != 1:
		log.Print("not in an enclave, on a laptop perhaps: ", err)
	case err != nil:
		// "boot: " and the step that failed, and what to do. An init must restart the
		// machine here instead, as examples/enclave does.
		log.Fatal(err)
	}
	// From here on an enclave has a loopback interface, randomness and the time. On a
	// laptop Run stopped for want of an NSM: what is there is the system's.
}

// Set the clock again every now and then: it drifts.
func ExampleSetClock() {
	moved, err := boot.SetClock()
	switch {
	case errors.Is(err, boot.ReasonNoClock), errors.Is(err, errors.ErrUnsupported):
		log.Print("the clock is the kernel's own: ", err)
	case err != nil:
		log.Print(err)
	default:
		log.Print("the clock was off by ", moved)
	}
}
