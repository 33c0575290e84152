// Package contain keeps a panic where it happens. Code that a proxy's user brings,
// such as a resolver, a log handler or a listener's connections, must not end the
// process and all connections of others with it.
package contain

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// PanicError is a panic that was contained.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

// Error returns the value of the panic without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Panic turns a panic of the calling function into its error, a [*PanicError]. It must
// be deferred directly.
func Panic(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// Handler wraps a log handler. A panic of it loses the line and nothing else. There is
// nobody to tell, because the log is broken.
type Handler struct{ slog.Handler }

// Enabled is that of the wrapped handler, and false if it panics.
func (h Handler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() { _ = recover() }()
	return h.Handler.Enabled(ctx, level)
}

// Handle is that of the wrapped handler, and nil if it panics.
func (h Handler) Handle(ctx context.Context, r slog.Record) error {
	defer func() { _ = recover() }()
	return h.Handler.Handle(ctx, r)
}
