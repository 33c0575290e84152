package eif

import (
	"crypto/sha512"
	"hash"
	"sync/atomic"
	"testing"
)

// counting counts the bytes that it and its clones hash.
type counting struct {
	hash.Hash
	n *atomic.Int64
}

func (c counting) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return c.Hash.Write(b)
}

func (c counting) Clone() (hash.Cloner, error) {
	clone, err := c.Hash.(hash.Cloner).Clone()
	return counting{clone, c.n}, err
}

// PCR0 and PCR1 share what they have in common; only the ram disks after the
// first are hashed twice, since PCR2 begins with them.
func TestBytesHashed(t *testing.T) {
	for _, size := range []int{10, parallelChunk + 1} {
		var n atomic.Int64
		m := &measurer{image: counting{sha512.New384(), &n}, application: counting{sha512.New384(), &n}}
		for _, s := range []struct {
			kind SectionType
			want int
		}{{Kernel, 1}, {Cmdline, 1}, {MetadataJSON, 0}, {Ramdisk, 1}, {Ramdisk, 2}, {Ramdisk, 2}, {SignatureData, 0}} {
			if err := m.begin(s.kind); err != nil {
				t.Fatal(err)
			}
			n.Store(0)
			m.write(make([]byte, size))
			if got := n.Load(); got != int64(s.want*size) {
				t.Errorf("%d bytes of a %v are hashed as %d", size, s.kind, got)
			}
		}
	}
}
