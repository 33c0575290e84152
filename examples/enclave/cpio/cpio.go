// Package cpio writes the archives that Linux unpacks as its first file system: cpio in
// the form "newc", uncompressed. It refuses names that the kernel would misread. The
// format is described in the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
//
// The same calls write the same bytes: there are no times, all files belong to root, and
// inodes are counted. So the ram disks of an enclave's image can be built again and
// measured the same.
package cpio

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// The types of files, as in stat(2).
const (
	typeFile      = 0o100000
	typeDirectory = 0o040000
)

// maxFileSize is the largest size that eight hexadecimal digits hold.
const maxFileSize = 1<<32 - 1

// trailer is the name of the last entry.
const trailer = "TRAILER!!!"

// Writer writes an archive. The kernel makes no directories by itself: add each one before
// its content.
type Writer struct {
	w     io.Writer
	inode uint32
	err   error
}

// NewWriter returns a [Writer] to w. The archive is incomplete until [Writer.Close].
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Directory adds a directory with the permissions 0755.
func (w *Writer) Directory(name string) error {
	return w.entry(name, typeDirectory|0o755, 2, nil)
}

// File adds a regular file with the permissions perm.
func (w *Writer) File(name string, perm fs.FileMode, content []byte) error {
	return w.entry(name, typeFile|uint32(perm.Perm()), 1, content)
}

// Close ends the archive. It does not close the underlying writer.
func (w *Writer) Close() error {
	w.inode = 0
	w.header(trailer, 0, 1, 0)
	return w.err
}

func (w *Writer) entry(name string, mode, links uint32, content []byte) error {
	// For the kernel, a zero byte ends the name, and the name of the trailer the archive.
	if !fs.ValidPath(name) || name == "." || name == trailer || strings.Contains(name, "\x00") {
		return fmt.Errorf("cpio: %q is no path from the root, without a slash in front", name)
	}
	if int64(len(content)) > maxFileSize {
		return fmt.Errorf("cpio: %s has %d bytes, more than the format can hold", name, len(content))
	}
	w.inode++
	w.header(name, mode, links, len(content))
	w.write(content)
	w.pad(len(content))
	return w.err
}

// headerSize counts a magic number and 13 fields of 8 digits.
const headerSize = 6 + 13*8

func (w *Writer) header(name string, mode, links uint32, size int) {
	w.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		w.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name)+1, 0, name))
	w.pad(headerSize + len(name) + 1)
}

// pad fills up to the next multiple of four bytes.
func (w *Writer) pad(n int) { w.write(make([]byte, -n&3)) }

func (w *Writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}
