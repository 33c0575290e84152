package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// world is what a script has around it: a target that echoes, proxies that run,
// and connections through them.
type world struct {
	dir       string // with a path short enough for sockets
	processes map[string]*process
	held      map[string]net.Conn
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// newWorld sets ORIGIN and ORIGIN_PORT, the target's, and S, a folder for sockets.
func newWorld(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "kv")
	if err != nil {
		return err
	}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := origin.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	w := &world{dir: dir, processes: make(map[string]*process), held: make(map[string]net.Conn)}
	env.Defer(func() {
		for _, p := range w.processes {
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		for _, conn := range w.held {
			_ = conn.Close()
		}
		_ = origin.Close()
		_ = os.RemoveAll(dir)
	})
	_, port, _ := net.SplitHostPort(origin.Addr().String())
	env.Setenv("ORIGIN", origin.Addr().String())
	env.Setenv("ORIGIN_PORT", port)
	env.Setenv("S", dir)
	env.Values[worldKey{}] = w
	return nil
}

// lines are lines that come in, and can be waited for.
type lines struct {
	mu    sync.Mutex
	more  *sync.Cond
	all   []string
	ended bool
}

func newLines() *lines {
	l := &lines{}
	l.more = sync.NewCond(&l.mu)
	return l
}

func (l *lines) add(line string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended {
		l.ended = true
	} else {
		l.all = append(l.all, line)
	}
	l.more.Broadcast()
}

// wait waits for a line that matches.
func (l *lines) wait(pattern *regexp.Regexp) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; ; i++ {
		for i == len(l.all) {
			if l.ended {
				return fmt.Errorf("nothing matches %q in:\n%s", pattern, strings.Join(l.all, "\n"))
			}
			l.more.Wait()
		}
		if pattern.MatchString(l.all[i]) {
			return nil
		}
	}
}

// process is a vsock-proxy that runs.
type process struct {
	cmd      *exec.Cmd
	log      *lines // its standard error
	messages *lines // to systemd
	exited   chan struct{}
	code     int
}

// launch starts cmd, as systemd would, with its notify socket in dir.
func launch(cmd *exec.Cmd, dir string) (*process, error) {
	p := &process{cmd: cmd, log: newLines(), messages: newLines(), exited: make(chan struct{})}
	path := filepath.Join(dir, fmt.Sprintf("notify%d", len(dirEntries(dir))))
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := notify.Read(buf)
			if err != nil {
				p.messages.add("", true)
				return
			}
			p.messages.add(string(buf[:n]), false)
		}
	}()
	go func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.log.add(s.Text(), false)
		}
		_ = cmd.Wait()
		p.code = cmd.ProcessState.ExitCode()
		close(p.exited)
		p.log.add("", true)
		_ = notify.Close()
	}()
	return p, nil
}

func dirEntries(dir string) []os.DirEntry {
	entries, _ := os.ReadDir(dir)
	return entries
}

// start NAME vsock-proxy [ARG…] starts one and waits until it is ready.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME vsock-proxy [ARG…]")
	}
	w := worldOf(ts)
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "WATCHDOG_USEC="+ts.Getenv("WATCHDOG_USEC"))
	p, err := launch(cmd, w.dir)
	ts.Check(err)
	w.processes[args[0]] = p
	if err := p.messages.wait(regexp.MustCompile("(?m)^READY=1$")); err != nil {
		ts.Fatalf("it does not become ready: %v", p.log.wait(regexp.MustCompile(`\A\z.`)))
	}
}

func processOf(ts *testscript.TestScript, name string) *process {
	p := worldOf(ts).processes[name]
	if p == nil {
		ts.Fatalf("no process %s", name)
	}
	return p
}

// sig NAME HUP|TERM|INT sends a signal.
func sig(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	ts.Check(processOf(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// says NAME REGEXP waits until a line of the log matches.
func says(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(processOf(ts, args[0]).log.wait(regexp.MustCompile(args[1])))
}

// notified NAME REGEXP waits until a message to systemd matches.
func notified(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(processOf(ts, args[0]).messages.wait(regexp.MustCompile(args[1])))
}

// ended NAME CODE waits for the end. The log is then the standard output.
func ended(ts *testscript.TestScript, _ bool, args []string) {
	p := processOf(ts, args[0])
	<-p.exited
	_, _ = io.WriteString(ts.Stdout(), strings.Join(p.log.all, "\n")+"\n")
	if got := fmt.Sprint(p.code); got != args[1] {
		ts.Fatalf("exit code %s, want %s: %s", got, args[1], strings.Join(p.log.all, "\n"))
	}
}

func dial(ts *testscript.TestScript, args []string) net.Conn {
	e, err := vsockproxy.ParseEndpoint(args[0])
	ts.Check(err)
	d := vsockproxy.Dialer{Endpoint: e}
	target := ""
	if len(args) > 2 {
		d.Connect, target = true, args[2]
	}
	conn, err := d.DialContext(context.Background(), "tcp", target)
	if err != nil {
		_, _ = fmt.Fprintln(ts.Stdout(), err)
		return nil
	}
	return conn
}

// send ENDPOINT TEXT [TARGET] sends a text through a proxy, with a TARGET by
// CONNECT. Its echo is the standard output; with !, nothing may come back.
func send(ts *testscript.TestScript, neg bool, args []string) {
	var echo []byte
	if conn := dial(ts, args); conn != nil {
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, args[1])
		_ = conn.(interface{ CloseWrite() error }).CloseWrite()
		echo, _ = io.ReadAll(conn)
		_, _ = ts.Stdout().Write(echo)
	}
	if (string(echo) == args[1]) == neg {
		ts.Fatalf("%q comes back", echo)
	}
}

// hold ENDPOINT NAME opens a connection, through to the target and back, and keeps
// it.
func hold(ts *testscript.TestScript, _ bool, args []string) {
	conn := dial(ts, args[:1])
	if conn == nil {
		ts.Fatalf("no connection")
	}
	worldOf(ts).held[args[1]] = conn
	_, err := io.WriteString(conn, "held")
	ts.Check(err)
	_, err = io.ReadFull(conn, make([]byte, 4))
	ts.Check(err)
}

// release NAME ends a connection that is held; with !, it was cut already.
func release(ts *testscript.TestScript, neg bool, args []string) {
	conn := worldOf(ts).held[args[0]]
	if !neg {
		_, err := io.WriteString(conn, "still")
		ts.Check(err)
		_, err = io.ReadFull(conn, make([]byte, 5))
		ts.Check(err)
		ts.Check(conn.(interface{ CloseWrite() error }).CloseWrite())
	}
	if rest, _ := io.ReadAll(conn); len(rest) > 0 {
		ts.Fatalf("%q comes back", rest)
	}
	ts.Check(conn.Close())
}

// gone ENDPOINT waits until nobody takes connections there any more.
func gone(ts *testscript.TestScript, _ bool, args []string) {
	for {
		conn := dial(ts, args)
		if conn == nil {
			return
		}
		ts.Check(conn.Close())
	}
}

// get SOCKET PATH gets from a proxy's metrics. Status and body are the standard
// output.
func get(ts *testscript.TestScript, _ bool, args []string) {
	var d net.Dialer
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", args[0])
		},
	}}
	resp, err := client.Get("http://proxy" + args[1])
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	_, _ = fmt.Fprintf(ts.Stdout(), "%s\n%s", resp.Status, body)
}

// expand FILE… puts the values of variables into files.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}
