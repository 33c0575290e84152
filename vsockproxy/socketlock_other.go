//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package vsockproxy

// lockSocketPath does nothing where there is no flock(2).
func lockSocketPath(string) (unlock func(), err error) { return func() {}, nil }
