package vsockproxy

import (
	"context"
	"net"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// handshake runs f, which reads from and writes to conn, and wakes it when ctx
// ends. Afterwards conn has no deadline.
func handshake(ctx context.Context, conn net.Conn, f func() error) error {
	// A deadline in the past wakes a blocked read or write when ctx ends.
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		// This goroutine has no caller that contains a panic of conn. Without a
		// deadline only the end of conn wakes f.
		defer func() {
			var err error
			defer contain.Panic(&err)
			if recover() != nil {
				_ = conn.Close()
			}
		}()
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	err := f()
	if !stop() {
		<-woken
		_ = conn.SetDeadline(time.Time{})
		if err == nil {
			err = context.Cause(ctx)
		}
	}
	return err
}
