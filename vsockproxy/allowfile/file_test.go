package allowfile

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// yamlOf is a file with these targets, which are addresses of IPv4 or names.
func yamlOf(t *testing.T, targets ...string) string {
	t.Helper()
	text := "allowlist:\n"
	for _, s := range targets {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("- {address: %s, port: %s}\n", host, port)
	}
	return text
}

func mustWriteFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, text string) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock-proxy.yaml")
	mustWriteFile(t, path, text)
	file, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, path
}

// wantReason checks the type and the reason of an error and returns it.
func wantReason(t *testing.T, err error, want vsockproxy.Reason) *vsockproxy.Error {
	t.Helper()
	var e *vsockproxy.Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("error %T %v, want reason %s", err, err, want)
	}
	return e
}

// logBook is a log whose lines a test reads.
type logBook struct{ lines chan map[string]any }

func newLogBook(*testing.T) *logBook { return &logBook{make(chan map[string]any, 1024)} }

func (b *logBook) Write(line []byte) (int, error) {
	var fields map[string]any
	err := json.Unmarshal(line, &fields)
	b.lines <- fields
	return len(line), err
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(b, nil)) }

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.yaml")
	open := func(says string) *vsockproxy.Error {
		t.Helper()
		file, err := Open(path)
		if file != nil {
			t.Error("a file beside an error")
		}
		e := wantReason(t, err, vsockproxy.ReasonInvalidAllowlist)
		if !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "list.yaml") {
			t.Errorf("%v does not say %q, and in which file", err, says)
		}
		return e
	}
	if e := open("list.yaml"); !errors.Is(e, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", e)
	}
	mustWriteFile(t, path, "allowlist: [{address: a.example, port: 65979}]")
	open(`port "65979"`)
	mustWriteFile(t, path, "#"+strings.Repeat("x", MaxSize))
	open("more than")
	path = filepath.Join(dir, "list.yaml.d")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	open("not a regular file")
}

// The zero value is safe.
func TestZeroAllowlistFile(t *testing.T) {
	var file File
	wantReason(t, (&vsockproxy.Proxy{Route: vsockproxy.To("a.example:443"), AllowFrom: file.Allowlist}).Check(), vsockproxy.ReasonInvalidOptions)
	wantReason(t, file.Reload(), vsockproxy.ReasonInvalidAllowlist)
	if n := len(file.Allowlist().Entries()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestBadReloadKeepsTheRules(t *testing.T) {
	file, path := openFile(t, yamlOf(t, "a.example:443"))
	for _, bad := range []string{"", "allowlist: []", "allowlist: [{address: b.example, port: 0}]", "allowlist:\n- {address: b.example, po"} {
		mustWriteFile(t, path, bad)
		wantReason(t, file.Reload(), vsockproxy.ReasonInvalidAllowlist)
		wantReason(t, file.Err(), vsockproxy.ReasonInvalidAllowlist)
		if got := file.Allowlist().Entries(); !slices.Equal(got, []string{"a.example:443"}) {
			t.Errorf("after %q: %q", bad, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantReason(t, file.Reload(), vsockproxy.ReasonInvalidAllowlist)
	mustWriteFile(t, path, yamlOf(t, "b.example:443"))
	if err := file.Reload(); err != nil || file.Err() != nil {
		t.Errorf("%v, %v", err, file.Err())
	}
	if got := file.Allowlist().Entries(); !slices.Equal(got, []string{"b.example:443"}) {
		t.Errorf("%q", got)
	}
}

func TestWatchPolls(t *testing.T) {
	file, path := openFile(t, yamlOf(t, "a.example:443"))
	book := newLogBook(t)
	log := book.logger()
	var last [sha256.Size]byte
	poll := func() { last = file.poll(last, log) }
	in := func(want string) {
		t.Helper()
		if got := file.Allowlist().Entries(); !slices.Equal(got, []string{want}) {
			t.Errorf("in force is %q, want %s", got, want)
		}
	}
	quiet := func() { // nothing was logged until now
		t.Helper()
		log.Info("quiet")
		if line := <-book.lines; line["msg"] != "quiet" {
			t.Errorf("unexpected line %v", line)
		}
	}
	poll()
	poll()
	quiet()

	// A change is taken when it has stayed: half of it could be a list as well.
	mustWriteFile(t, path, "allowlist:\n- {address: b.example, port: 4}\n")
	poll()
	in("a.example:443")
	mustWriteFile(t, path, yamlOf(t, "b.example:443"))
	poll()
	in("a.example:443")
	quiet()
	poll()
	in("b.example:443")
	if line := <-book.lines; line["msg"] != "the allowlist is loaded" || line["level"] != "INFO" || line["entries"] != 1.0 || line["path"] != path {
		t.Errorf("line %v", line)
	}

	// A mistake is told once.
	mustWriteFile(t, path, "allowlist: []")
	for range 4 {
		poll()
	}
	in("b.example:443")
	line := <-book.lines
	if line["level"] != "ERROR" || !strings.Contains(line["error"].(string), "empty") {
		t.Errorf("line %v", line)
	}
	wantReason(t, file.Err(), vsockproxy.ReasonInvalidAllowlist)
	quiet()

	// So is that the file is gone, and that the rules in force are back.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		poll()
	}
	if line := <-book.lines; line["level"] != "ERROR" {
		t.Errorf("line %v", line)
	}
	quiet()
	mustWriteFile(t, path, yamlOf(t, "b.example:443"))
	for range 3 {
		poll()
	}
	if line := <-book.lines; line["level"] != "INFO" {
		t.Errorf("line %v", line)
	}
	if err := file.Err(); err != nil {
		t.Error(err)
	}
	quiet()

	// What Reload has taken is not news.
	mustWriteFile(t, path, yamlOf(t, "c.example:443"))
	if err := file.Reload(); err != nil {
		t.Error(err)
	}
	for range 3 {
		poll()
	}
	in("c.example:443")
	quiet()

	// Same length, same time: only the content tells.
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	mustWriteFile(t, path, yamlOf(t, "d.example:443"))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	poll()
	poll()
	in("d.example:443")
}

func TestWatch(t *testing.T) {
	var file File
	wantReason(t, file.Watch(t.Context(), -1, nil), vsockproxy.ReasonInvalidOptions)
	synctest.Test(t, func(t *testing.T) {
		file, path := openFile(t, yamlOf(t, "a.example:443"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- file.Watch(ctx, 0, nil) }()
		mustWriteFile(t, path, yamlOf(t, "b.example:443"))
		time.Sleep(2*DefaultInterval - 1)
		synctest.Wait()
		if got := file.Allowlist().Entries(); !slices.Equal(got, []string{"a.example:443"}) {
			t.Errorf("%q before two intervals", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := file.Allowlist().Entries(); !slices.Equal(got, []string{"b.example:443"}) {
			t.Errorf("%q after two intervals", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestLoadStats(t *testing.T) {
	file, path := openFile(t, yamlOf(t, "a.example:443"))
	before := file.Stats()
	if before.Loaded != 1 || before.Failed != 0 || time.Since(before.Last) < 0 || before.Last.IsZero() {
		t.Errorf("%+v", before)
	}
	mustWriteFile(t, path, "allowlist: []")
	_ = file.Reload()
	if s := file.Stats(); s != (Stats{Loaded: 1, Failed: 1, Last: before.Last}) {
		t.Errorf("%+v", s)
	}
	mustWriteFile(t, path, yamlOf(t, "b.example:443"))
	if err := file.Reload(); err != nil {
		t.Fatal(err)
	}
	if s := file.Stats(); s.Loaded != 2 || s.Failed != 1 || s.Last.Before(before.Last) {
		t.Errorf("%+v", s)
	}
}

// Reloading, watching and reading go on at once.
func TestConcurrentUse(t *testing.T) {
	file, path := openFile(t, yamlOf(t, "a.example:443"))
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() { _ = file.Watch(ctx, time.Millisecond, nil) })
	others.Go(func() {
		for ctx.Err() == nil {
			if !slices.Contains(file.Allowlist().Entries(), "a.example:443") {
				t.Error("the rules are not in force")
			}
			_, _ = file.Err(), file.Stats()
		}
	})
	for i := range 50 {
		text := yamlOf(t, "a.example:443", fmt.Sprintf("n%d.example:443", i))
		if i%3 == 0 {
			text = "allowlist: []"
		}
		if os.WriteFile(path+".new", []byte(text), 0o600) != nil || os.Rename(path+".new", path) != nil {
			t.Error("cannot write")
		}
		if err := file.Reload(); (err != nil) != (i%3 == 0) {
			t.Error(err)
		}
	}
	cancel()
	others.Wait()
}
