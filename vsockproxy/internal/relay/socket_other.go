//go:build !unix

package relay

import "net"

func rawOf(net.Conn) rawConn { return nil }

func (f *flow) readable(uintptr) bool { panic("no raw connections") }
func (f *flow) writable(uintptr) bool { panic("no raw connections") }
