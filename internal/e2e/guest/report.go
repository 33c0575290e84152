//go:build linux && amd64

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/keyvouch/keyvouch/internal/e2e"
)

// report writes lines to the serial port.
type report struct {
	mu    sync.Mutex
	w     io.Writer
	lines int
}

func (r *report) line(l e2e.Line) {
	text, err := l.Encode()
	if err != nil {
		text = []byte(err.Error() + "\n")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// A newline first, so that what the kernel wrote stands on a line of its own.
	_, _ = r.w.Write(append([]byte("\n"), text...))
	r.lines++
}

func (r *report) facts(facts map[string]string) { r.line(e2e.Line{Facts: maps.Clone(facts)}) }

func (r *report) end() {
	n := r.lines
	r.line(e2e.Line{End: &n})
}

// skipped is the error of a check that cannot be done on this machine.
type skipped string

func (s skipped) Error() string { return string(s) }

// checkLimit bounds a check; the processor is emulated, so it is long.
const checkLimit = 90 * time.Second

// check runs f, and reports it as passed with the detail that f returns, or as
// failed. A panic and a check that hangs are failures like any other.
func (r *report) check(name string, f func(ctx context.Context) (detail string, err error)) {
	r.checkWithin(name, checkLimit, f)
}

func (r *report) checkWithin(name string, limit time.Duration, f func(ctx context.Context) (string, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	type outcome struct {
		detail string
		err    error
	}
	done := make(chan outcome, 1)
	started := time.Now()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- outcome{err: fmt.Errorf("panic: %v\n%s", p, debug.Stack())}
			}
		}()
		detail, err := f(ctx)
		done <- outcome{detail, err}
	}()
	var o outcome
	select {
	case o = <-done:
	case <-time.After(limit + 10*time.Second):
		o.err = fmt.Errorf("hangs: no result %v after its context ended", 10*time.Second)
	}
	c := &e2e.Check{Name: name, Result: e2e.Passed, Detail: o.detail, Millis: time.Since(started).Milliseconds()}
	var skip skipped
	switch {
	case errors.As(o.err, &skip):
		c.Result, c.Detail = e2e.Skipped, string(skip)
	case o.err != nil:
		c.Result, c.Detail = e2e.Failed, o.err.Error()
	}
	r.line(e2e.Line{Check: c})
}
