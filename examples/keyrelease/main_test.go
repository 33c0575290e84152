package main

import (
	"io"
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

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, exitReleased},
		{[]string{"-tamper", "nonce"}, exitRefused},
		{[]string{"-tamper", "root"}, exitRefused},
		{[]string{"-nonsense"}, exitUsage},
		{[]string{"-device", "/dev/nsm", "-proxy", "vsock://3:8000", "-region", "r", "-key-id", "k", "-ciphertext", "AAAA"}, exitFailed},
	} {
		if got := run(c.args, io.Discard, io.Discard); got != c.want {
			t.Errorf("%q: exit code %d, want %d", c.args, got, c.want)
		}
	}
}

// What the proxy saw is only proof if something else than TLS is noticed.
func TestCountTLSRecords(t *testing.T) {
	record := []byte{22, 3, 1, 0, 2, 'h', 'i'}
	for _, c := range []struct {
		stream string
		want   int // -1 for an error
	}{
		{"", 0},
		{string(record), 1},
		{string(record) + string(record), 2},
		{string(record) + "\x17\x03\x03\x00\xffcut", 2},
		{"GET / HTTP/1.1\r\n", -1},
		{string(record) + "plain", -1},
	} {
		got, err := countTLSRecords([]byte(c.stream))
		if (c.want < 0) != (err != nil) || err == nil && got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.stream, got, err, c.want)
		}
	}
}

// A refusal by one party does not hide a release by another.
func TestReleaseDespiteRefusal(t *testing.T) {
	r := &report{Tamper: "image"}
	r.refused("the verifier", "measurement", "")
	if err := mustBeRefused(r); err != nil {
		t.Error(err)
	}
	r.finish(nil)
	if r.Result != resultRefused {
		t.Errorf("result %q", r.Result)
	}

	r.SHA256 = "00"
	if mustBeRefused(r) == nil {
		t.Error("an attack that ended with the secret counts as refused")
	}
	r.finish(nil)
	if r.Result != resultReleased {
		t.Errorf("result %q of a run that released the secret", r.Result)
	}
}
