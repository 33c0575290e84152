//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/nsm"
)

// stress has the library's concurrency meet the real driver.
func (g *guest) stress() {
	g.check("nsm/concurrent", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		const callers, calls = 16, 12
		err := together(callers, func(caller int) error {
			for call := range calls {
				if err := ownAnswer(ctx, s, uint64(caller)<<32|uint64(call)); err != nil {
					return err
				}
			}
			return nil
		})
		return fmt.Sprintf("%d callers of one session, %d documents each: every caller got its own", callers, calls), err
	}))

	g.check("nsm/concurrent-sessions", func(ctx context.Context) (string, error) {
		const sessions, calls = 8, 12
		err := together(sessions, func(caller int) error {
			s, err := nsm.Open()
			if err != nil {
				return err
			}
			for call := range calls {
				if err := ownAnswer(ctx, s, uint64(caller)<<32|uint64(call)); err != nil {
					return errors.Join(err, s.Close())
				}
			}
			return s.Close()
		})
		return fmt.Sprintf("%d sessions, %d documents each", sessions, calls), err
	})

	g.check("nsm/close-during-calls", func(ctx context.Context) (string, error) {
		const rounds, callers = 20, 8
		before, err := openFiles()
		if err != nil {
			return "", err
		}
		var served atomic.Int64
		for range rounds {
			s, err := nsm.Open()
			if err != nil {
				return "", err
			}
			var first sync.Once
			begun := make(chan struct{})
			ended := make(chan error, 1)
			go func() {
				ended <- together(callers, func(caller int) error {
					for {
						err := ownAnswer(ctx, s, uint64(caller))
						if errors.Is(err, nsm.ReasonClosed) {
							return wantError(err, nsm.ReasonClosed, "")
						}
						if err != nil {
							return err
						}
						served.Add(1)
						first.Do(func() { close(begun) })
					}
				})
			}()
			<-begun
			if err := errors.Join(s.Close(), s.Close(), <-ended); err != nil {
				return "", err
			}
		}
		after, err := openFiles()
		if err != nil {
			return "", err
		}
		if after > before {
			return "", fmt.Errorf("%d descriptors are open, and %d were before", after, before)
		}
		return fmt.Sprintf("%d rounds of %d callers, %d documents before Close; no descriptor is left", rounds, callers, served.Load()), nil
	})

	// hf/nsm passes the address of a variable on its stack to the ioctl. If the
	// runtime could move that stack, or free a buffer meanwhile, then under this
	// load: collections without a pause, and stacks that grow and shrink.
	g.check("nsm/gc-pressure", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		defer debug.SetGCPercent(debug.SetGCPercent(1))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		stop := make(chan struct{})
		var pressure sync.WaitGroup
		for range 2 {
			pressure.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						sink.Store(bytes.Repeat([]byte{0xAA}, 64<<10))
						runtime.GC()
					}
				}
			})
		}
		const callers, calls = 4, 100
		err := together(callers, func(caller int) error {
			for call := range calls {
				// On a goroutine of its own, whose stack is small and has to
				// grow; each at another depth.
				failed := make(chan error)
				go func() {
					failed <- deep(call*7%64, func() error { return ownAnswer(ctx, s, uint64(caller)<<32|uint64(call)) })
				}()
				if err := <-failed; err != nil {
					return err
				}
			}
			return nil
		})
		close(stop)
		pressure.Wait()
		runtime.ReadMemStats(&after)
		return fmt.Sprintf("%d documents during %d collections, all intact", callers*calls, after.NumGC-before.NumGC), err
	}))

	g.check("nsm/signals", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGUSR1)
		defer signal.Stop(caught)
		stop := make(chan struct{})
		var sent atomic.Int64
		var storm sync.WaitGroup
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-caught:
				default:
					_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
					sent.Add(1)
					runtime.Gosched()
				}
			}
		})
		const callers, calls = 4, 25
		err := together(callers, func(caller int) error {
			for call := range calls {
				if err := ownAnswer(ctx, s, uint64(caller)<<32|uint64(call)); err != nil {
					return err
				}
			}
			return nil
		})
		close(stop)
		storm.Wait()
		return fmt.Sprintf("%d documents while %d signals came", callers*calls, sent.Load()), err
	}))

	// A call whose context ends while the request is at the device must not give
	// its answer to the next.
	g.check("nsm/abandoned", session(func(ctx context.Context, s *nsm.Session) (string, error) {
		canceled, answered := 0, 0
		for round := range uint64(60) {
			short, cancel := context.WithCancel(ctx)
			go func() {
				for range round {
					runtime.Gosched()
				}
				cancel()
			}()
			err := ownAnswer(short, s, round)
			switch {
			case err == nil:
				answered++
			case errors.Is(err, context.Canceled):
				canceled++
			default:
				return "", err
			}
			if err := ownAnswer(ctx, s, 1<<40|round); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%d calls were abandoned and %d were not; each next one got its own answer", canceled, answered), nil
	}))
}

var sink atomic.Value

// deep calls f at a depth of n frames of some size.
func deep(n int, f func() error) error {
	if n == 0 {
		return f()
	}
	var frame [512]byte
	frame[n] = byte(n)
	err := deep(n-1, f)
	if frame[n] != byte(n) {
		return fmt.Errorf("a frame of the stack changed")
	}
	return err
}

// ownAnswer asks for a document, and for it to be this caller's.
func ownAnswer(ctx context.Context, s *nsm.Session, id uint64) error {
	nonce := bytes.Repeat(binary.BigEndian.AppendUint64(nil, id), 64) // 512 bytes, to be seen torn
	raw, err := s.Attest(ctx, nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		return err
	}
	doc, err := e2e.ParseUnsigned(raw)
	if err != nil {
		return fmt.Errorf("a damaged answer: %w: %x", err, raw)
	}
	if !bytes.Equal(doc.Nonce, nonce) {
		return fmt.Errorf("asked with nonce %x… and got %x", nonce[:8], doc.Nonce)
	}
	return nil
}

// together runs f n times at once.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func openFiles() (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	return len(entries), err
}
