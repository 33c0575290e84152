//go:build !linux

package vsockproxy

// splicer is what a flow needs to splice, and only Linux can.
type splicer struct{}

func (*splicer) releasePipe() {}
