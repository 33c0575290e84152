package main

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/internal/programtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"attest": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: writeFixtures,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": programtest.Exits},
	})
}

// each runs a command for every file that matches a pattern: exits with the
// file as the last argument.
func each(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: each CODE PATTERN COMMAND [ARG…]")
	}
	files, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file matches %s", args[1])
	}
	for _, file := range files {
		programtest.Exits(ts, false, append(append([]string{args[0]}, args[2:]...), file))
	}
}
