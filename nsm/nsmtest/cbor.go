package nsmtest

import "encoding/binary"

// The CBOR major types (RFC 8949, section 3.1), in place in the first byte.
const (
	majorUint   = 0 << 5
	majorNegInt = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
	majorSimple = 7 << 5
)

const (
	cborNull  = 0xf6
	cborTrue  = 0xf5
	cborFalse = 0xf4
	cborBreak = 0xff

	// cborIndefinite is added to a major type for an indefinite length.
	cborIndefinite = 31
)

// The append functions write CBOR by hand: the tests of a verifier depend on
// every byte of it, so no library's defaults may decide.

func appendHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func appendText(b []byte, s string) []byte {
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

func appendBytes(b, s []byte) []byte {
	return append(appendHead(b, majorBytes, uint64(len(s))), s...)
}

func appendBytesOrNull(b, s []byte) []byte {
	if s == nil {
		return append(b, cborNull)
	}
	return appendBytes(b, s)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

func appendInt(b []byte, v int) []byte {
	if v < 0 {
		return appendHead(b, majorNegInt, uint64(-(v + 1)))
	}
	return appendHead(b, majorUint, uint64(v))
}

// maxSkipDepth bounds the nesting of a value that a request need not have.
const maxSkipDepth = 8

// reader takes CBOR items off the front of a request. Its methods report false
// when the request is not what they look for.
type reader struct{ rest []byte }

// head reads the first byte of an item and its argument. width is the number
// of bytes the argument took beyond the first.
func (r *reader) head() (major byte, arg uint64, width int, indefinite, ok bool) {
	if len(r.rest) == 0 {
		return 0, 0, 0, false, false
	}
	first := r.rest[0]
	major, info := first&0xe0, first&0x1f
	r.rest = r.rest[1:]
	switch {
	case info < 24:
		return major, uint64(info), 0, false, true
	case info == cborIndefinite:
		return major, 0, 0, true, true
	case info > 27:
		return 0, 0, 0, false, false
	}
	width = 1 << (info - 24)
	if len(r.rest) < width {
		return 0, 0, 0, false, false
	}
	for _, c := range r.rest[:width] {
		arg = arg<<8 | uint64(c)
	}
	r.rest = r.rest[width:]
	return major, arg, width, false, true
}

// peek tells the major type of the next item.
func (r *reader) peek() (major byte, ok bool) {
	if len(r.rest) == 0 {
		return 0, false
	}
	return r.rest[0] & 0xe0, true
}

// text reads a text string of definite length.
func (r *reader) text() (string, bool) {
	b, ok := r.str(majorText)
	return string(b), ok
}

// str reads a string of the given major type and of definite length.
func (r *reader) str(want byte) ([]byte, bool) {
	major, n, _, indefinite, ok := r.head()
	if !ok || indefinite || major != want || n > uint64(len(r.rest)) {
		return nil, false
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b, true
}

// bytesOrText reads a byte string. Like serde's ByteBuf and QEMU it takes the
// bytes of a text string, too.
func (r *reader) bytesOrText() ([]byte, bool) {
	if major, ok := r.peek(); ok && major == majorText {
		return r.str(majorText)
	}
	return r.str(majorBytes)
}

// null reads a null, if that is what comes next.
func (r *reader) null() bool {
	if len(r.rest) > 0 && r.rest[0] == cborNull {
		r.rest = r.rest[1:]
		return true
	}
	return false
}

// uint8 reads an unsigned integer that is written in one or two bytes, which is
// what the emulated device takes: at most 255, and less than 24 in either form.
func (r *reader) uint8() (int, bool) {
	major, v, width, indefinite, ok := r.head()
	if !ok || indefinite || major != majorUint || width > 1 {
		return 0, false
	}
	return int(v), true
}

// entries reads a map with text keys and calls value to read each value.
func (r *reader) entries(value func(key string) bool) bool {
	major, n, _, indefinite, ok := r.head()
	if !ok || major != majorMap {
		return false
	}
	// Each entry takes bytes off a bounded request, so n needs no bound.
	for i := uint64(0); indefinite || i < n; i++ {
		if indefinite && len(r.rest) > 0 && r.rest[0] == cborBreak {
			r.rest = r.rest[1:]
			return true
		}
		key, ok := r.text()
		if !ok || !value(key) {
			return false
		}
	}
	return true
}

// skip reads any item and forgets it.
func (r *reader) skip(depth int) bool {
	major, n, width, indefinite, ok := r.head()
	if !ok || depth > maxSkipDepth {
		return false
	}
	switch major {
	case majorUint, majorNegInt:
		return !indefinite
	case majorSimple:
		return !indefinite && !(width == 1 && n < 32) // a lone break, an ill-formed simple value
	case majorTag:
		return !indefinite && r.skip(depth+1)
	case majorBytes, majorText:
		if indefinite {
			for len(r.rest) > 0 && r.rest[0] != cborBreak {
				if _, ok := r.str(major); !ok {
					return false
				}
			}
			return r.takeBreak()
		}
		if n > uint64(len(r.rest)) {
			return false
		}
		r.rest = r.rest[n:]
		return true
	}
	perEntry := uint64(1)
	if major == majorMap {
		perEntry = 2
	}
	for i := uint64(0); indefinite || i < n; i++ {
		if indefinite && len(r.rest) > 0 && r.rest[0] == cborBreak {
			break
		}
		for range perEntry {
			if !r.skip(depth + 1) {
				return false
			}
		}
	}
	return !indefinite || r.takeBreak()
}

func (r *reader) takeBreak() bool {
	if len(r.rest) == 0 || r.rest[0] != cborBreak {
		return false
	}
	r.rest = r.rest[1:]
	return true
}
