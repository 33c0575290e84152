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

// replace writes a file under a temporary name and renames it when it is complete. After an
// error an existing file is unchanged. A symbolic link stays one; the file it leads to is
// replaced.
func replace(name string, write func(io.Writer) error) error {
	switch info, err := os.Stat(name); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is no regular file; name a file to write or to replace", name)
	default:
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return err
		}
	}
	// The temporary file is in the same folder, because a rename cannot cross file
	// systems. os.CreateTemp would ignore the umask and let nobody else read it.
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
