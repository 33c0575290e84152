package eif_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// However the reader hands out its bytes, the image is the same, and each prefix
// of it is truncated.
func TestReaders(t *testing.T) {
	c := contents()
	c.Signer = newSigner(t, elliptic.P256())
	file, want := write(t, c)
	for name, r := range map[string]io.Reader{
		"byte by byte":       iotest.OneByteReader(bytes.NewReader(file)),
		"halves":             iotest.HalfReader(bytes.NewReader(file)),
		"data beside io.EOF": iotest.DataErrReader(bytes.NewReader(file)),
	} {
		image, err := eif.Read(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, image); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for n := range file {
		_, err := eif.Read(bytes.NewReader(file[:n]))
		if e := hasReason(t, err, eif.ReasonTruncated); e.Offset != int64(n) {
			t.Errorf("%d bytes: %v", n, e)
		}
	}
}

func TestReadFails(t *testing.T) {
	broken := errors.New("broken")
	file, _ := write(t, contents())
	for n := range len(file) + 1 {
		image, err := eif.Read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
		if e := hasReason(t, err, eif.ReasonRead); !errors.Is(e, broken) || image != nil || e.Offset != int64(n) {
			t.Errorf("after %d bytes: %v, %v", n, image, e)
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// Whatever is announced, and however much there is, little of it is in memory.
func TestMemory(t *testing.T) {
	// More than all that an image may make Read keep, and its growing buffers.
	const limit = 8 << 20
	announce := func(size uint64) []byte {
		file := assemble(4, section{eif.Kernel, ""}, section{eif.Cmdline, ""})
		binary.BigEndian.PutUint64(file[atSizes:], size)
		return binary.BigEndian.AppendUint64(file[:eif.HeaderSize+4], size)
	}
	for name, test := range map[string]struct {
		r      io.Reader
		reason eif.Reason
	}{
		"announced":       {bytes.NewReader(announce(eif.MaxImageSize - 1000)), eif.ReasonTruncated},
		"64 MiB":          {io.MultiReader(bytes.NewReader(announce(64<<20)), io.LimitReader(zeros{}, 64<<20+100)), eif.ReasonSectionTable},
		"no end":          {zeros{}, eif.ReasonMagic},
		"no end of bytes": {io.MultiReader(bytes.NewReader(assemble(4, section{eif.Kernel, "K"}, section{eif.Cmdline, ""}, section{eif.MetadataJSON, vectorMetadata}, section{eif.Ramdisk, ""})), zeros{}), eif.ReasonTrailingBytes},
		"all that is kept": {bytes.NewReader(assemble(4, section{eif.Kernel, "K"}, section{eif.Cmdline, strings.Repeat("c", eif.MaxCmdlineSize)},
			section{eif.MetadataJSON, strings.Repeat(" ", eif.MaxMetadataSize)})), eif.ReasonMetadata},
		"many members": {bytes.NewReader(assemble(4, section{eif.Kernel, "K"}, section{eif.Cmdline, ""}, section{eif.MetadataJSON, manyMembers()})), eif.ReasonMetadata},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := eif.Read(test.r)
		runtime.ReadMemStats(&after)
		hasReason(t, err, test.reason)
		if got := after.TotalAlloc - before.TotalAlloc; got > limit {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

// manyMembers is metadata with as many members as there can be.
func manyMembers() string {
	var b strings.Builder
	b.WriteByte('{')
	for i := 0; b.Len() < eif.MaxMetadataSize-20; i++ {
		fmt.Fprintf(&b, `"%x":1,`, i)
	}
	b.WriteString(`"":1}`)
	return b.String()
}
