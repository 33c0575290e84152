package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptorLimit is how many descriptors the process may have. Go has raised the
// soft limit to the hard one.
func descriptorLimit() (uint64, bool) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, false
	}
	return limit.Cur, true
}

// openDescriptors counts the descriptors of the process.
func openDescriptors() (int, bool) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, false
	}
	return len(entries) - 1, true // without the one of the folder itself
}
