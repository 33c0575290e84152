//go:build unix && !linux

package vsockproxy

func (*splicer) spliceIn(int) bool   { return false }
func (*splicer) spliceOut(int) error { return nil }
