package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// LoadModules loads kernel modules from files, in the order given: the NSM's driver,
// say, where the kernel has it as a module,
//
//	boot.LoadModules("/lib/modules/virtio_mmio.ko", "/lib/modules/nsm.ko")
//
// What a module needs goes before it; nothing looks for that here. The files must not
// be compressed. A module that is loaded already is left alone. It needs root or
// CAP_SYS_MODULE. Errors are *Error.
func LoadModules(paths ...string) error {
	for _, path := range paths {
		if err := loadModule(path); err != nil {
			e := &Error{Op: "LoadModules", Reason: ReasonModules, Err: err}
			switch {
			case errors.Is(err, fs.ErrPermission):
				e.Detail = "run as root or with CAP_SYS_MODULE"
			case errors.Is(err, unix.ENOEXEC):
				e.Detail = "the file is no module of this very kernel, or is compressed"
			case errors.Is(err, errUnknownSymbol):
				e.Detail = "a module that it needs is not loaded; put it before this one"
			}
			return e
		}
	}
	return nil
}

// errUnknownSymbol tells the ENOENT of finit_module(2), for a symbol that no module
// has, from that of a file that is not there.
var errUnknownSymbol = errors.New("unknown symbol")

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	switch {
	case err == nil, errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("finit_module %s: %w", path, errUnknownSymbol)
	}
	return &fs.PathError{Op: "finit_module", Path: path, Err: err}
}
