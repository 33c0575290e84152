package nsm

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
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

// creditKernel adds seed, of which every bit counts, to the kernel's pool.
func creditKernel(seed []byte) error {
	info := &randPoolInfo{entropyCount: 8 * seedSize, bufSize: seedSize}
	defer clear(info.buf[:])
	copy(info.buf[:], seed)
	f, err := os.OpenFile(randomPath, os.O_WRONLY, 0)
	if err != nil {
		return seedError(err)
	}
	defer func() { _ = f.Close() }()
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(info)))
		runtime.KeepAlive(info)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return seedError(os.NewSyscallError("ioctl RNDADDENTROPY", errno))
		}
	}
}

func seedError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &Error{Reason: ReasonPermission, Detail: "this process may not add to the kernel's randomness; run as root or with CAP_SYS_ADMIN, or let the init of the enclave do it", Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{Reason: ReasonDevice, Detail: "there is no " + randomPath + "; mount devtmpfs on /dev first", Err: err}
	}
	return &Error{Reason: ReasonDevice, Detail: "the kernel does not take the randomness of the NSM", Err: err}
}
