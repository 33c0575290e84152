package nsm

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const randomPath = "/dev/random"

// randPoolInfo is struct rand_pool_info of <linux/random.h>.
type randPoolInfo struct {
	entropyCount int32 // bits
	bufSize      int32 // bytes
	buf          [seedSize]byte
}

// creditKernel adds seed, of which every bit counts, to the kernel's pool, and has the
// generator take it from there. A generator that counts as seeded already, by the
// processor's instructions for instance, would by itself take it at its next turn
// only, up to a minute later: after the keys that a program makes when it starts.
func creditKernel(seed []byte) error {
	info := &randPoolInfo{entropyCount: 8 * seedSize, bufSize: seedSize}
	defer clear(info.buf[:])
	copy(info.buf[:], seed)
	f, err := os.OpenFile(randomPath, os.O_WRONLY, 0)
	if err != nil {
		return seedError(err)
	}
	defer func() { _ = f.Close() }()
	if err := ioctlRandom(f, "RNDADDENTROPY", unix.RNDADDENTROPY, unsafe.Pointer(info)); err != nil {
		return err
	}
	return ioctlRandom(f, "RNDRESEEDCRNG", unix.RNDRESEEDCRNG, nil)
}

func ioctlRandom(f *os.File, name string, request uintptr, argument unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(argument))
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return seedError(os.NewSyscallError("ioctl "+name, errno))
		}
	}
}

func seedError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &Error{Reason: ReasonPermission, Detail: "this process may not add to the kernel's randomness; run as root or with CAP_SYS_ADMIN, or let the init of the enclave do it", Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Reason: ReasonDevice, Detail: "there is no " + randomPath + "; mount devtmpfs on /dev first", Err: err}
	case errors.Is(err, syscall.EINVAL):
		return &Error{Reason: ReasonDevice, Detail: "this kernel does not know how to seed its generator anew, which came with Linux 4.17 and some stable kernels before; use a newer one", Err: err}
	}
	return &Error{Reason: ReasonDevice, Detail: "the kernel does not take the randomness of the NSM", Err: err}
}
