package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// statusInterval is how often what systemctl status shows is brought up to date.
const statusInterval = 5 * time.Second

// errSecondSignal cuts the connections of a process that was told twice.
var errSecondSignal = errors.New("a second signal")

// loggedError is one that the log has told already.
type loggedError struct{ error }

// service is a process that serves.
type service struct {
	*config
	log      *slog.Logger
	notify   *notifier
	counts   map[*route]*counts
	began    time.Time
	ready    atomic.Bool // everything listens
	draining atomic.Bool
}

// bound is a listener and the route that it is for.
type bound struct {
	*route
	listener net.Listener
}

// serve serves until a signal ends it, or something that cannot be mended.
func (p *program) serve(c *config) error {
	// From here on SIGHUP must not kill.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	s := &service{config: c, log: c.logger(p.stderr), counts: make(map[*route]*counts), began: time.Now()}
	var err error
	if s.notify, err = newNotifier(os.Getenv, os.Unsetenv); err != nil {
		s.log.Warn("systemd cannot be told how this service does", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cutting := make(chan struct{})
	bounds, err := s.listenAll(ctx)
	if err != nil {
		return err
	}
	stopMetrics, err := s.serveMetrics(ctx)
	if err != nil {
		closeAll(bounds)
		return err
	}
	defer stopMetrics()
	s.sayListening(bounds)

	ended := make(chan error)
	for _, b := range bounds {
		// Each has a cache of names of its own, so that no route's clients push out
		// the names of another's.
		proxy := b.proxy
		proxy.Logger = s.log.With("route", b.name)
		proxy.OnEnd = s.counts[b.route].end
		proxy.Cut = cutting
		go func() { ended <- proxy.Serve(ctx, countedListener{b.listener, s.counts[b.route]}) }()
	}
	for _, f := range s.files {
		go func() { _ = f.Watch(ctx, p.watchInterval, s.log) }()
	}
	s.warnOfDescriptors(bounds)
	s.ready.Store(true)
	s.notify.send("READY=1", s.status())
	return s.loop(signals, ended, len(bounds), cancel, func() { close(cutting) })
}

// loop waits for what happens until every listener's Serve has ended. The watchdog
// is fed here, so that it tells of a loop that hangs. Its error is a loggedError.
func (s *service) loop(signals <-chan os.Signal, ended <-chan error, serving int, cancel, cut func()) error {
	status := time.NewTicker(statusInterval)
	defer status.Stop()
	var failure error
	told, cutting := false, false // by a first signal, by a second
	stop := func() {
		s.draining.Store(true)
		s.notify.send("STOPPING=1", s.status())
		cancel()
	}
	for serving > 0 {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP && s.draining.Load():
			case sig == syscall.SIGHUP:
				s.reload()
			case cutting: // Serve should have ended by now
				return s.end(errors.New("one more signal: not waiting for the connections that were cut"))
			case told:
				cutting = true
				if failure == nil {
					failure = errSecondSignal
				}
				s.log.Warn("a second signal: open connections are cut", "signal", sig.String(), "open", s.open())
				cut()
			default: // also while a broken listener has it drain
				told = true
				s.log.Info("ending: no new connections; a second signal cuts the open ones", "signal", sig.String(), "open", s.open(), "drain_timeout", s.drain())
				stop()
			}
		case err := <-ended:
			serving--
			if err != nil && failure == nil {
				failure = errors.New(plain(err))
				s.log.Error("ending: a listener is broken", "error", err)
				stop()
			}
		case <-s.notify.watchdog():
			s.notify.send("WATCHDOG=1")
		case <-status.C:
			s.notify.send(s.status())
		}
	}
	return s.end(failure)
}

// end writes the last line of the log.
func (s *service) end(failure error) error {
	if failure != nil {
		s.log.Error("ended", "error", failure)
		return loggedError{failure}
	}
	s.log.Info("ended")
	return nil
}

func (s *service) drain() time.Duration {
	if s.drainTimeout == 0 {
		return vsockproxy.DefaultDrainTimeout
	}
	return s.drainTimeout
}

func (s *service) open() int64 {
	var open int64
	for _, c := range s.counts {
		open += c.open()
	}
	return open
}

// status is the line that systemctl status shows.
func (s *service) status() string {
	open := s.open()
	if s.draining.Load() {
		return fmt.Sprintf("STATUS=ending, %s open", count(open, "connection"))
	}
	text := fmt.Sprintf("STATUS=%s, %s open", count(len(s.routes), "route"), count(open, "connection"))
	for _, f := range s.files {
		if f.Err() != nil {
			text += fmt.Sprintf("; %s has a mistake, its old rules stay", f.path)
		}
	}
	return text
}

// reload loads the files of rules anew. What else a configuration says takes a new
// process.
func (s *service) reload() {
	s.notify.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", monotonicMicros()))
	for _, f := range s.files {
		if err := f.Reload(); err != nil {
			s.log.Error("the allowlist is not loaded, the rules stay as they were", "path", f.path, "error", plain(err))
			continue
		}
		s.log.Info("the allowlist is loaded", "path", f.path, "entries", len(f.Allowlist().Entries()))
	}
	if s.path != "" && s.hasChanged() {
		s.log.Warn("the configuration has changed since the start, and only files of rules are loaded without a restart", "path", s.path)
	}
	s.notify.send("READY=1", s.status())
}

// hasChanged reports whether the configuration reads differently now. It looks at
// nothing but a file, because reading from a pipe could wait for ever.
func (s *service) hasChanged() bool {
	if info, err := os.Stat(s.path); err == nil && !info.Mode().IsRegular() {
		return false
	}
	content, err := readFile(s.path)
	return err != nil || !bytes.Equal(content, s.content)
}

// listenAll opens every listener or none.
func (s *service) listenAll(ctx context.Context) ([]bound, error) {
	passed, err := passedListeners(os.Getenv, os.Unsetenv)
	if err != nil {
		return nil, err
	}
	var all []bound
	fail := func(err error) ([]bound, error) {
		closeAll(all)
		for _, p := range passed {
			_ = p.Close()
		}
		return nil, err
	}
	for _, r := range s.routes {
		s.counts[r] = newCounts()
		if !r.listen.IsZero() {
			l, err := vsockproxy.Listen(ctx, r.listen)
			if err != nil {
				return fail(fmt.Errorf("route %s: %s", r.name, withAdvice(err)))
			}
			all = append(all, bound{r, l})
			continue
		}
		found := false
		for i := 0; i < len(passed); {
			// The command line has one route, which has no name to choose.
			if p := passed[i]; p.name == r.name || s.path == "" {
				all, found = append(all, bound{r, p.Listener}), true
				passed = append(passed[:i], passed[i+1:]...)
				continue
			}
			i++
		}
		if !found {
			return fail(fmt.Errorf("route %s listens on what systemd passes, and there is no socket with FileDescriptorName=%s%s", r.name, r.name, namesOf(passed)))
		}
	}
	if len(passed) > 0 {
		return fail(fmt.Errorf("systemd passes a socket that no route takes%s; a route with that name and \"listen: systemd\" would", namesOf(passed)))
	}
	return all, nil
}

// sayListening is for when nothing can keep the process from serving any more.
func (s *service) sayListening(bounds []bound) {
	for _, b := range bounds {
		on := fromSystemd
		if !b.listen.IsZero() {
			on = b.listen.String()
		}
		s.log.Info("listening", "route", b.name, "on", on, "address", b.listener.Addr().Network()+" "+b.listener.Addr().String(), "leads", b.words)
	}
}

func closeAll(bounds []bound) {
	for _, b := range bounds {
		_ = b.listener.Close()
	}
}

// passedListener is a listener from systemd.
type passedListener struct {
	net.Listener
	name string
}

func namesOf(passed []passedListener) string {
	if len(passed) == 0 {
		return ""
	}
	names := make([]string, len(passed))
	for i, p := range passed {
		names[i] = fmt.Sprintf("%+q", p.name)
	}
	return " (passed is " + strings.Join(names, ", ") + ")"
}

// withAdvice adds what to do on a machine that cannot listen on vsock.
func withAdvice(err error) string {
	text := plain(err)
	var e *vsockproxy.Error
	if errors.As(err, &e) && e.Reason == vsockproxy.ReasonUnsupported && isVsock(e.Endpoint) {
		text += " (on a parent instance: is it started with enclaves enabled, and are the kernel modules loaded? modprobe nitro_enclaves vsock; for development, --listen or the route's listen takes unix:///run/p.sock and tcp://127.0.0.1:8000)"
	}
	return text
}

// warnOfDescriptors compares what connections may need with what there is: a
// process without descriptors accepts nobody, whatever its limits say.
func (s *service) warnOfDescriptors(bounds []bound) {
	routes := make([]*route, len(bounds))
	for i, b := range bounds {
		routes[i] = b.route
	}
	if text := descriptorWarning(routes); text != "" {
		s.log.Warn(text)
	}
}

// spareDescriptors are for lookups, files, metrics, and what forwarding and dialing
// take for a moment.
const spareDescriptors = 200

// descriptorNeed is for listeners of these routes. A route may have several, which
// systemd passes, and each has the route's limit for itself.
func descriptorNeed(listeners []*route) uint64 {
	need := uint64(spareDescriptors)
	for _, r := range listeners {
		need += 1 + 2*uint64(r.maxConns())
	}
	return need
}

func descriptorWarning(listeners []*route) string {
	limit, ok := descriptorLimit()
	need := descriptorNeed(listeners)
	if !ok || need <= limit {
		return ""
	}
	return fmt.Sprintf("the listeners and the routes' limits on their connections add up to about %d descriptors, and the process may have %d: raise LimitNOFILE, or lower max_conns", need, limit)
}

func (r *route) maxConns() int {
	if r.proxy.MaxConns == 0 {
		return vsockproxy.DefaultMaxConns
	}
	return r.proxy.MaxConns
}
