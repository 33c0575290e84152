// Package programtest has what the script tests of this project's programs share. It is
// test support: a test of the import graph keeps production packages from it.
package programtest

import (
	"errors"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// Exits is the script command "exits CODE COMMAND [ARG…]". It runs a command and fails
// the test unless the command exits with the code. The command's output is in the files
// stdout and stderr, as after "exec".
func Exits(ts *testscript.TestScript, neg bool, args []string) {
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

// QuickExit keeps the race detector from sleeping for a second at each exit of a
// program.
func QuickExit(env *testscript.Env) { env.Setenv("GORACE", "atexit_sleep_ms=0") }
