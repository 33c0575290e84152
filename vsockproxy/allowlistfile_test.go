package vsockproxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/vsock"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/conntest"
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

func openFile(t *testing.T, text string) (*AllowlistFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vsock-proxy.yaml")
	mustWriteFile(t, path, text)
	file, err := OpenAllowlistFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file, path
}

func TestOpenAllowlistFileErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "list.yaml")
	open := func(says string) *Error {
		t.Helper()
		file, err := OpenAllowlistFile(path)
		if file != nil {
			t.Error("a file beside an error")
		}
		e := wantReason(t, err, ReasonInvalidAllowlist)
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
	mustWriteFile(t, path, "#"+strings.Repeat("x", MaxAllowlistSize))
	open("more than")
	path = filepath.Join(dir, "list.yaml.d")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	open("not a regular file")
}

// The zero value is safe.
func TestZeroAllowlistFile(t *testing.T) {
	var file AllowlistFile
	wantReason(t, (&Proxy{Route: To("a.example:443"), AllowFrom: file.Allowlist}).Serve(t.Context(), &scriptedListener{}), ReasonInvalidOptions)
	wantReason(t, file.Reload(), ReasonInvalidAllowlist)
	if n := len(file.Allowlist().Entries()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestBadReloadKeepsTheRules(t *testing.T) {
	file, path := openFile(t, yamlOf(t, "a.example:443"))
	for _, bad := range []string{"", "allowlist: []", "allowlist: [{address: b.example, port: 0}]", "allowlist:\n- {address: b.example, po"} {
		mustWriteFile(t, path, bad)
		wantReason(t, file.Reload(), ReasonInvalidAllowlist)
		wantReason(t, file.Err(), ReasonInvalidAllowlist)
		if got := file.Allowlist().Entries(); !slices.Equal(got, []string{"a.example:443"}) {
			t.Errorf("after %q: %q", bad, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	wantReason(t, file.Reload(), ReasonInvalidAllowlist)
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
	wantReason(t, file.Err(), ReasonInvalidAllowlist)
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
	var file AllowlistFile
	wantReason(t, file.Watch(t.Context(), -1, nil), ReasonInvalidOptions)
	synctest.Test(t, func(t *testing.T) {
		file, path := openFile(t, yamlOf(t, "a.example:443"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- file.Watch(ctx, 0, nil) }()
		mustWriteFile(t, path, yamlOf(t, "b.example:443"))
		time.Sleep(2*DefaultWatchInterval - 1)
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

// New rules are for new connections; those that are open go on.
func TestReloadUnderOpenConnections(t *testing.T) {
	eachTransport(t, func(t *testing.T, tr transport) {
		target := origin(t, echo)
		file, path := openFile(t, yamlOf(t, target))
		r := start(t, tr, &Proxy{Route: To(target), AllowFrom: file.Allowlist})
		old := r.dial(t)
		conntest.Write(t, old, "one")
		conntest.WantRead(t, old, "one")

		mustWriteFile(t, path, yamlOf(t, "other.example:443"))
		if err := file.Reload(); err != nil {
			t.Fatal(err)
		}
		refused := r.dial(t)
		conntest.WantCut(t, refused)
		if line := r.log.wantEnd(t, string(ReasonNotAllowed)); !strings.Contains(line["error"].(string), target) {
			t.Errorf("line %v", line)
		}
		conntest.Write(t, old, "two")
		conntest.WantRead(t, old, "two")

		mustWriteFile(t, path, yamlOf(t, "other.example:443", target))
		if err := file.Reload(); err != nil {
			t.Fatal(err)
		}
		mustWriteFile(t, path, "allowlist: [")
		wantReason(t, file.Reload(), ReasonInvalidAllowlist)
		if err := roundTrip(t.Context(), &r.Dialer, "three"); err != nil {
			t.Error(err)
		}
		conntest.Write(t, old, "four")
		conntest.WantRead(t, old, "four")
		if err := old.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		conntest.WantCut(t, old)
		r.log.wantEnd(t, endClosed)
	})
}

// Names are judged by the rules of the moment, and so are the addresses they lead
// to.
func TestReloadOfAddresses(t *testing.T) {
	target := origin(t, echo)
	name := net.JoinHostPort("name.example", portOf(t, target))
	var rules atomic.Pointer[Allowlist]
	set := func(entries ...string) {
		a := mustAllow(t, entries...)
		rules.Store(&a)
	}
	set(name)
	p := &Proxy{Route: To(name), AllowFrom: func() Allowlist { return *rules.Load() }, Resolver: fakeDNS{"name.example": {"127.0.0.1"}}}
	r := start(t, transports[2], p)
	conntest.WantCut(t, r.dial(t))
	r.log.wantEnd(t, string(ReasonForbiddenAddress))
	set(name, "127.0.0.0/8:1-65535")
	if err := roundTrip(t.Context(), &r.Dialer, "hello"); err != nil {
		t.Error(err)
	}
	r.log.wantEnd(t, endClosed)
	rules.Store(new(Allowlist)) // an empty list permits nothing
	conntest.WantCut(t, r.dial(t))
	r.log.wantEnd(t, string(ReasonNotAllowed))
}

// Reloading, watching and serving go on at once.
func TestReloadWhileServing(t *testing.T) {
	target := origin(t, echo)
	file, path := openFile(t, yamlOf(t, target))
	r := start(t, transports[2], &Proxy{Route: To(target), AllowFrom: file.Allowlist})
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() { _ = file.Watch(ctx, time.Millisecond, nil) })
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			text := yamlOf(t, target, fmt.Sprintf("n%d.example:443", i))
			if i%3 == 0 {
				text = "allowlist: []"
			}
			if os.WriteFile(path+".new", []byte(text), 0o600) != nil || os.Rename(path+".new", path) != nil {
				t.Error("cannot write")
				return
			}
			if err := file.Reload(); (err != nil) != (i%3 == 0) {
				t.Error(err)
			}
			_ = file.Err()
		}
	})
	for range 50 {
		if err := roundTrip(ctx, &r.Dialer, "hello"); err != nil {
			t.Error(err)
		}
	}
	cancel()
	others.Wait()
}

// An enclave has the targets of its own context ID.
func TestContextIDsAtTheProxy(t *testing.T) {
	target := origin(t, echo)
	p := &Proxy{Route: To(target), Allow: mustAllow(t, target+" cid=16,18")}
	l, e := transports[2].listen(t)
	var cid atomic.Uint32
	r := startOn(t, wrapListener{l, func(conn net.Conn) net.Conn {
		if cid.Load() == 0 {
			return conn
		}
		return fromCID{conntest.Wrapped{Duplex: conn.(conntest.Duplex)}, cid.Load()}
	}}, e, p)
	for _, test := range []struct {
		cid uint32
		ok  bool
	}{{16, true}, {17, false}, {18, true}, {0, false}} {
		cid.Store(test.cid)
		err := roundTrip(t.Context(), &r.Dialer, "hello")
		if (err == nil) != test.ok {
			t.Errorf("context ID %d: %v", test.cid, err)
		}
		if test.ok {
			r.log.wantEnd(t, endClosed)
		} else if line := r.log.wantEnd(t, string(ReasonNotAllowed)); !strings.Contains(line["error"].(string), "but not for") {
			t.Errorf("line %v", line)
		}
	}
}

// Over the kernel's own vsock the context ID is the one of the machine.
func TestContextIDsOverVsock(t *testing.T) {
	needVsockLoopback(t)
	target := origin(t, echo)
	for cid, ok := range map[uint32]bool{vsock.Local: true, 99: false} {
		r := start(t, transports[3], &Proxy{Route: To(target), Allow: mustAllow(t, fmt.Sprintf("%s cid=%d", target, cid))})
		if err := roundTrip(t.Context(), &r.Dialer, "hello"); (err == nil) != ok {
			t.Errorf("context ID %d: %v", cid, err)
		}
	}
}
