package cpio

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"
)

// write makes an archive with names and sizes of every residue modulo four.
func write(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, err := range []error{
		w.Directory("dev"),
		w.File("init", 0o755, []byte("12345")),
		w.File("dev/a", 0o644, []byte("123456")),
		w.File("dev/ab", 0o600, []byte("1234567")),
		w.File("dev/abc", 0o644, nil),
		w.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestBytes(t *testing.T) {
	archive := write(t)
	want := "070701" + "00000001" + "000041ED" + "00000000" + "00000000" + "00000002" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "dev\x00" + "\x00\x00" +
		"070701" + "00000002" + "000081ED" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000005" + "00000000" + "init\x00" + "\x00" +
		"12345\x00\x00\x00"
	if !bytes.HasPrefix(archive, []byte(want)) {
		t.Errorf("got  %q\nwant %q…", archive[:len(want)], want)
	}
	if !bytes.HasSuffix(archive, []byte("0000000B00000000TRAILER!!!\x00\x00\x00\x00")) || len(archive)%4 != 0 {
		t.Errorf("ends with %q, %d bytes", archive[len(archive)-40:], len(archive))
	}
	if !bytes.Equal(archive, write(t)) {
		t.Error("the same calls made two archives")
	}
}

// The program cpio, where there is one, reads the same.
func TestSecondOpinion(t *testing.T) {
	path, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("there is no cpio here")
	}
	cmd := exec.Command(path, "-it", "--quiet")
	cmd.Stdin = bytes.NewReader(write(t))
	out, err := cmd.Output()
	if err != nil || string(out) != "dev\ninit\ndev/a\ndev/ab\ndev/abc\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestRefused(t *testing.T) {
	w := NewWriter(new(bytes.Buffer))
	for _, name := range []string{"", ".", "/init", "a/../b", "a//b", "a/", "a\x00b", "TRAILER!!!"} {
		if err := w.File(name, 0o644, nil); err == nil {
			t.Errorf("took %q", name)
		}
	}
}

type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestWriteError(t *testing.T) {
	w := NewWriter(full{})
	if err := w.Directory("dev"); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Error(err)
	}
}
