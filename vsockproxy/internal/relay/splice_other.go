//go:build !linux

package relay

// splicer is what a flow needs to splice, and only Linux can.
type splicer struct{}

func (*splicer) releasePipe() {}
