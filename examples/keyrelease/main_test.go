package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyrelease": main})
}

func TestScripts(t *testing.T) {
	if _, err := os.Stat(nsmDevice); err == nil {
		t.Skip("this machine has " + nsmDevice + "; the scripts expect none")
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// The race detector lets every process linger a second at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0")
			return nil
		},
	})
}
