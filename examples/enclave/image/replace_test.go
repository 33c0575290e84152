package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	write := func(s string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, s)
			return err
		}
	}
	file := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second"} {
		if err := replace(file, write(content)); err != nil {
			t.Fatal(err)
		}
		wantFile(t, file, content)
	}

	failed := errors.New("failed")
	for _, name := range []string{"file", "another"} {
		err := replace(filepath.Join(dir, name), func(w io.Writer) error {
			return errors.Join(write("a part")(w), failed)
		})
		if !errors.Is(err, failed) {
			t.Error(err)
		}
	}
	wantFile(t, file, "second")

	if err := replace(dir, write("")); err == nil {
		t.Error("replaced a folder")
	}
	if err := replace(filepath.Join(dir, "missing", "file"), write("")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// What is not a file of its own, such as /dev/null, must not become one.
func TestReplaceOnUnix(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links and file modes are of Unix")
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	empty := func(io.Writer) error { return nil }
	if err := replace(file, empty); err != nil {
		t.Fatal(err)
	}
	if err := replace(link, func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	wantFile(t, file, "new")
	if target, err := os.Readlink(link); err != nil || target != file {
		t.Errorf("the link leads to %q, %v", target, err)
	}

	// As any program would make it.
	plain := filepath.Join(dir, "plain")
	f, err := os.Create(plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var modes [2]os.FileMode
	for i, name := range []string{plain, file} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		modes[i] = info.Mode()
	}
	if modes[0] != modes[1] {
		t.Errorf("its mode is %v, not %v", modes[1], modes[0])
	}
	if err := replace(os.DevNull, empty); err == nil {
		t.Errorf("replaced %s", os.DevNull)
	}
}
