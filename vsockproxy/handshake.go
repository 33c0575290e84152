package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// handshake reads from a client what says where it wants to go. One time limit
// covers all of it, however the client cuts it up.
func (s *server) handshake(ctx context.Context, client net.Conn, what string, read func() error) error {
	ctx, cancel := context.WithTimeout(ctx, s.handshakeTimeout)
	defer cancel()
	err := handshake(ctx, client, read)
	switch {
	case err == nil || errors.As(err, new(*Error)):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &Error{Op: "handshake", Reason: ReasonTimeout, Detail: fmt.Sprintf("the client has not finished its %s within the handshake timeout of %v", what, s.handshakeTimeout)}
	case ctx.Err() != nil:
		return &Error{Op: "handshake", Reason: ReasonCanceled, Detail: fmt.Sprintf("the proxy ends, and the client has not finished its %s", what)}
	}
	return fmt.Errorf("read the client's %s: %w", what, err)
}

// malformed is the error for a client that does not say properly where it wants
// to go.
func malformed(reason Reason, format string, args ...any) error {
	return &Error{Op: "handshake", Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// endsEarly reports whether err says that the stream ended.
func endsEarly(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
