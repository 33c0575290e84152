package vsockproxy

import (
	"context"
	"log/slog"
)

// containedHandler keeps a panic of the caller's log handler away from
// connections and from Serve. There is nobody to tell: the log is broken.
type containedHandler struct{ slog.Handler }

func (h containedHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() { _ = recover() }()
	return h.Handler.Enabled(ctx, level)
}

func (h containedHandler) Handle(ctx context.Context, r slog.Record) error {
	defer func() { _ = recover() }()
	return h.Handler.Handle(ctx, r)
}
