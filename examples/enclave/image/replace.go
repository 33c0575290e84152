package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// replace writes a file, which takes its name once all of it is there: beside an error
// the one that had the name is as it was. A symbolic link stays one, and the file it
// leads to is replaced.
func replace(name string, write func(io.Writer) error) error {
	switch info, err := os.Stat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is no regular file; name one to write, or to replace", name)
	default:
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return err
		}
	}
	// In the same folder, since a rename does not lead from one file system to another.
	// os.CreateTemp would let nobody else read it, whatever the umask.
	temporary := name + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}
