package main

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/internal/programtest"
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
			"exits": programtest.Exits, "expand": expand, "start": start, "sig": sig, "says": says, "notified": notified,
			"ended": ended, "send": send, "hold": hold, "release": release, "get": get, "gone": gone,
		},
	})
}
