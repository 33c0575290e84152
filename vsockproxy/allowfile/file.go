package allowfile

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
	"github.com/keyvouch/keyvouch/vsockproxy/internal/contain"
)

// DefaultInterval is how often [File.Watch] looks at the file where
// it is not told otherwise.
const DefaultInterval = 5 * time.Second

// File is an allowlist in a file, which can be loaded anew while a
// [vsockproxy.Proxy] runs with it: set its AllowFrom to its Allowlist method. A file
// that cannot be read or has a mistake never takes the place of the rules in
// force. Open it with [Open]; the zero File has no rules, and
// a Proxy refuses to start with it.
//
// All methods may be called by several goroutines at once.
type File struct {
	path    string
	current atomic.Pointer[vsockproxy.Allowlist]

	// mu is held from reading to putting in force, so that what was read first
	// does not replace what was read later.
	mu    sync.Mutex
	taken [sha256.Size]byte
	err   error
	stats Stats
}

// Stats counts the loads of an [File], for metrics.
type Stats struct {
	// Loaded is how many succeeded, the one of Open among them.
	Loaded int
	// Failed is how many did not, and left the rules as they were.
	Failed int
	// Last is when the last one that succeeded did.
	Last time.Time
}

// Open reads the file at path, in the format of [Read], which
// has to be there and without mistakes. It keeps no descriptor. Errors are
// [*vsockproxy.Error] with [vsockproxy.ReasonInvalidAllowlist], and wrap those of the operating system.
func Open(path string) (*File, error) {
	f := &File{path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Allowlist returns the rules in force: those of the last load that succeeded.
func (f *File) Allowlist() vsockproxy.Allowlist {
	if a := f.current.Load(); a != nil {
		return *a
	}
	return vsockproxy.Allowlist{}
}

// Err returns why the last load failed, or nil if the rules in force are those it
// found. It is what a health check should show: rules that look edited and are
// not in force.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Stats counts the loads so far, those of Watch among them.
func (f *File) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Reload reads the file. If it fails, the rules stay as they are. Connections that
// are open go on in any case, also those that the new rules would refuse; the new
// rules are for connections to come. The error is a [*vsockproxy.Error]
// with [vsockproxy.ReasonInvalidAllowlist].
func (f *File) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.take(f.read())
}

// Watch looks at the file every interval, where zero means
// [DefaultInterval], until ctx ends, and returns nil then. A negative
// interval is a [*vsockproxy.Error] with [vsockproxy.ReasonInvalidOptions].
//
// It reads the file, rather than trust its times, and loads what has changed and
// then stayed the same for an interval: somebody who writes the file in place is
// perhaps not done, and half a file may be a list without mistakes. Each change
// is loaded once, and told to logger, which may be nil: at level Info that it is in
// force, or at level Error why it is not.
func (f *File) Watch(ctx context.Context, interval time.Duration, logger *slog.Logger) error {
	if interval < 0 {
		return &vsockproxy.Error{Op: "Watch", Reason: vsockproxy.ReasonInvalidOptions, Field: "interval", Detail: fmt.Sprintf("it is negative (%v); zero means the default of %v", interval, DefaultInterval)}
	}
	interval = cmp.Or(interval, DefaultInterval)
	log := slog.New(slog.DiscardHandler)
	if logger != nil {
		log = slog.New(contain.Handler{Handler: logger.Handler()})
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var last [sha256.Size]byte
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			last = f.poll(last, log)
		}
	}
}

// poll loads the file if it is as it was at the last poll, and not as it was last
// loaded. It returns what the next poll gets as last.
func (f *File) poll(last [sha256.Size]byte, log *slog.Logger) [sha256.Size]byte {
	seen, loaded, err := f.pollQuietly(last)
	// Without mu: a log handler may block, or ask for Err.
	switch {
	case err != nil:
		log.Error("the allowlist is not loaded, the rules stay as they were", "path", f.path, "error", err)
	case loaded:
		log.Info("the allowlist is loaded", "path", f.path, "entries", len(f.Allowlist().Entries()))
	}
	return seen
}

// pollQuietly is poll without the logs.
func (f *File) pollQuietly(last [sha256.Size]byte) (seen [sha256.Size]byte, loaded bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, err := f.read()
	seen = fingerprint(content, err)
	if seen != last || seen == f.taken {
		return seen, false, nil
	}
	err = f.take(content, err)
	return seen, err == nil, err
}

// take puts what read has returned in force. The caller holds f.mu.
func (f *File) take(content []byte, err error) error {
	f.taken = fingerprint(content, err)
	var a vsockproxy.Allowlist
	if err == nil {
		a, err = parse(content)
	}
	if err != nil {
		f.stats.Failed++
		f.err = &vsockproxy.Error{Op: "Reload", Reason: vsockproxy.ReasonInvalidAllowlist, Field: fmt.Sprintf("the allowlist file %q", f.path), Err: err}
		return f.err
	}
	f.err = nil
	f.stats.Loaded++
	f.stats.Last = time.Now()
	f.current.Store(&a)
	return nil
}

func (f *File) read() ([]byte, error) {
	// Opening a pipe would wait for somebody to write to it, and what is there
	// may be replaced at any time.
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a regular file")
	}
	return readBounded(file)
}

// fingerprint is equal for equal results of read.
func fingerprint(content []byte, err error) [sha256.Size]byte {
	if err != nil {
		return sha256.Sum256([]byte("\x00" + err.Error())) // no YAML begins with NUL
	}
	return sha256.Sum256(content)
}
