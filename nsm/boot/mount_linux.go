package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mount is one file system that a Linux program expects to find.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
	mode                 fs.FileMode // of the directory, if it has to be made
}

const quiet = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC

// mounts are those of AWS's init (aws-nitro-enclaves-sdk-bootstrap, init/init.c) but for
// terminals and control groups, which programs in an enclave hardly need.
var mounts = []mount{
	{"dev", "/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "", 0o755},
	{"proc", "/proc", "proc", quiet, "", 0o755},
	{"sysfs", "/sys", "sysfs", quiet, "", 0o755},
	{"tmpfs", "/run", "tmpfs", quiet, "mode=0755", 0o755},
	{"tmpfs", "/tmp", "tmpfs", quiet, "mode=1777", 0o755},
	{"shm", "/dev/shm", "tmpfs", quiet, "mode=1777", 0o755},
}

// links are what programs expect in /dev and devtmpfs does not make.
var links = []struct{ name, to string }{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
}

// Mount mounts /dev, /proc, /sys, /run, /tmp and /dev/shm, and makes their directories
// and the links from /dev/fd, /dev/stdin, /dev/stdout and /dev/stderr. Where something
// is mounted it leaves that alone, and likewise links and files that are there; what
// the image itself has in a directory that is mounted on, /tmp for instance, is hidden.
// It needs root or CAP_SYS_ADMIN. Errors are *Error.
func Mount() error { return mountBelow("/") }

func mountBelow(root string) error {
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		done, err := isMountPoint(target)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Mkdir(target, m.mode)
		}
		if err != nil {
			return &Error{Op: "Mount", Reason: ReasonMount, Detail: "the directory for " + m.kind, Err: err}
		}
		if done {
			continue
		}
		err = unix.Mount(m.source, target, m.kind, m.flags, m.data)
		// EBUSY is the kernel's word for a file system that is there already.
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return mountError(&fs.PathError{Op: "mount " + m.kind, Path: target, Err: err})
		}
	}
	for _, l := range links {
		if err := os.Symlink(l.to, filepath.Join(root, l.name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return &Error{Op: "Mount", Reason: ReasonMount, Err: err}
		}
	}
	return nil
}

func mountError(err error) error {
	e := &Error{Op: "Mount", Reason: ReasonMount, Err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.Detail = "run as root or with CAP_SYS_ADMIN"
	case errors.Is(err, unix.ENODEV):
		e.Detail = "the kernel is built without this file system"
	}
	return e
}

// isMountPoint reports whether something is mounted on path: it is then on another
// device than its parent.
func isMountPoint(path string) (bool, error) {
	var own, above unix.Stat_t
	if err := unix.Lstat(path, &own); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if own.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false, &fs.PathError{Op: "mount", Path: path, Err: unix.ENOTDIR}
	}
	if err := unix.Lstat(filepath.Dir(path), &above); err != nil {
		return false, &fs.PathError{Op: "lstat", Path: filepath.Dir(path), Err: err}
	}
	return own.Dev != above.Dev, nil
}
