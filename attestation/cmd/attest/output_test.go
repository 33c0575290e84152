package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestColour(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no colours on Windows")
	}
	// A character device, as a terminal is.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	for _, c := range []struct {
		name string
		w    io.Writer
		env  map[string]string
		want bool
	}{
		{"a terminal", device, nil, true},
		{"NO_COLOR", device, map[string]string{"NO_COLOR": "1"}, false},
		{"an empty NO_COLOR", device, map[string]string{"NO_COLOR": ""}, true},
		{"a dumb terminal", device, map[string]string{"TERM": "dumb"}, false},
		{"a file", file, nil, false},
		{"a buffer", &bytes.Buffer{}, nil, false},
	} {
		t.Setenv("NO_COLOR", c.env["NO_COLOR"])
		t.Setenv("TERM", c.env["TERM"])
		want := "verdict"
		if c.want {
			want = "\x1b[1;31mverdict\x1b[0m"
		}
		if got := paint(c.w, red, "verdict"); got != want {
			t.Errorf("%s: %q, want %q", c.name, got, want)
		}
	}
}

func TestEscape(t *testing.T) {
	const s = "a\x1b[2J\u009b\u202e\xffé\n"
	for _, c := range []struct {
		keep func(rune) bool
		want string
	}{
		{isASCII, `a\x1b[2J\u009b\u202e\xff\u00e9\n`},
		{strconv.IsPrint, `a\x1b[2J\u009b\u202e` + "\ufffd" + `é\n`},
	} {
		if got := escape(s, c.keep); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
