package main

import (
	"encoding/base64"
	"flag"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/internal/programtest"
)

func TestMain(m *testing.M) {
	// The scripts wait more than they compute. The command line's word still counts.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"kmstool": testMain, "kmstool-as-built": main})
}

func TestScripts(t *testing.T) {
	t.Parallel() // beside the build of TestStaticallyLinked
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: newWorld,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "sizes": sizes, "remember": remember},
	})
}

// exits runs a command that must exit with the code given first, and shows none
// of the secrets on the standard error.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	programtest.Exits(ts, neg, args)
	stderr := ts.ReadFile("stderr")
	for _, secret := range []string{testSecret, testToken, plaintext, ts.Getenv("PLAINTEXT")} {
		if holdsPiece(stderr, secret) {
			ts.Fatalf("a secret on the standard error")
		}
	}
	for _, secret := range []string{testSecret, testToken} {
		if holdsPiece(ts.ReadFile("stdout"), secret) {
			ts.Fatalf("a secret on the standard output")
		}
	}
	for _, r := range stderr {
		if r != '\n' && (r < ' ' || r > '~') {
			ts.Fatalf("the standard error has %+q", r)
		}
	}
	// Options are of the API; who reads this has flags.
	for _, word := range []string{"Options", "KeyIDs", "kmsclient:", "nsmtest"} {
		if strings.Contains(stderr, word) {
			ts.Fatalf("the standard error speaks of %s", word)
		}
	}
}

// holdsPiece finds eight characters in a row of a secret, in whatever case.
func holdsPiece(text, secret string) bool {
	text, secret = strings.ToLower(text), strings.ToLower(secret)
	for i := 0; i+8 <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+8]) {
			return true
		}
	}
	return false
}

// lines are what a program in another language makes of the output.
func lines(ts *testscript.TestScript) (names []string, values [][]byte) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		decoded, err := base64.StdEncoding.DecodeString(value)
		ts.Check(err)
		if !ok {
			ts.Fatalf("line %q", line)
		}
		names, values = append(names, name), append(values, decoded)
	}
	return names, values
}

// sizes checks the lines of the last output, each with a name and how many bytes
// its value has; 0 is any.
func sizes(ts *testscript.TestScript, neg bool, args []string) {
	names, values := lines(ts)
	var got []string
	for i, name := range names {
		size := len(values[i])
		if 2*i+1 < len(args) && args[2*i+1] == "0" && size > 0 {
			size = 0
		}
		got = append(got, name, strconv.Itoa(size))
	}
	if neg || strings.Join(got, " ") != strings.Join(args, " ") {
		ts.Fatalf("the output has %q, want %q", got, args)
	}
}

// remember puts the value of a line of the last output into a variable.
func remember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: remember LINE VARIABLE")
	}
	names, values := lines(ts)
	for i, name := range names {
		if name == args[0] {
			ts.Setenv(args[1], base64.StdEncoding.EncodeToString(values[i]))
			return
		}
	}
	ts.Fatalf("no line %s", args[0])
}
