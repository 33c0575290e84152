package vectors

import (
	"bytes"
	"encoding/binary"
)

// CBOR is written by hand, since half of the vectors have what no encoder
// would write.

// Major types (RFC 8949, section 3.1), in place in the first byte.
const (
	majorUint   = 0 << 5
	majorNegint = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
)

var (
	cborNull       = []byte{0xf6}
	cborUndefined  = []byte{0xf7}
	cborFalse      = []byte{0xf4}
	cborBreak      = []byte{0xff}
	cborZero       = []byte{0x00}
	openMap        = []byte{0xbf} // of indefinite length, like the next two
	openArray      = []byte{0x9f}
	openBytes      = []byte{0x5f}
	cborHalfFloat1 = []byte{0xf9, 0x3c, 0x00}
)

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// head writes an item's head in the shortest form.
func head(major byte, n uint64) []byte {
	switch {
	case n < 24:
		return []byte{major | byte(n)}
	case n < 1<<8:
		return []byte{major | 24, byte(n)}
	case n < 1<<16:
		return binary.BigEndian.AppendUint16([]byte{major | 25}, uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32([]byte{major | 26}, uint32(n))
	}
	return binary.BigEndian.AppendUint64([]byte{major | 27}, n)
}

// longHead writes an item's head with an argument of eight bytes.
func longHead(major byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{major | 27}, n)
}

func cborUint(n uint64) []byte      { return head(majorUint, n) }
func cborBytes(b []byte) []byte     { return join(head(majorBytes, uint64(len(b))), b) }
func cborText(s string) []byte      { return join(head(majorText, uint64(len(s))), []byte(s)) }
func tag(n uint64, b []byte) []byte { return join(head(majorTag, n), b) }

func cborArray(items ...[]byte) []byte {
	return join(head(majorArray, uint64(len(items))), join(items...))
}

// cborMap takes keys and values in turn.
func cborMap(pairs ...[]byte) []byte {
	return join(head(majorMap, uint64(len(pairs)/2)), join(pairs...))
}

// bytesOrNull writes nil as null, as NSMs do.
func bytesOrNull(b []byte) []byte {
	if b == nil {
		return cborNull
	}
	return cborBytes(b)
}
