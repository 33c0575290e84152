package main

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"vsock-proxy": testMain})
}

// testMain is main with a shorter interval between looks at files.
func testMain() {
	p := program{stdout: os.Stdout, stderr: os.Stderr, watchInterval: 10 * time.Millisecond}
	os.Exit(p.run(os.Args[1:]))
}

func TestScripts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths of sockets begin with a slash, and there are no signals")
	}
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: newWorld,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "expand": expand, "start": start, "sig": sig, "says": says, "notified": notified,
			"ended": ended, "send": send, "hold": hold, "release": release, "get": get, "gone": gone,
		},
	})
}

// exits runs a command that must exit with the code given first.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("%q exits with %d, not %d", args[1:], got, want)
	}
}
