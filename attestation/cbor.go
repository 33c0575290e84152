package attestation

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// A general CBOR decoder forgives: it folds the case of names, takes lengths
// in any width and indefinite items anywhere, and cannot tell the caller where
// it stood. Documents have one fixed shape, so they are read by this strict
// reader instead, one item at a time and never deeper than the shape goes.

// CBOR major types (RFC 8949, section 3.1).
const (
	majorUint   = 0
	majorNegint = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
	majorTag    = 6
	majorSimple = 7
)

const (
	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22

	additionalIndefinite = 31

	headBreak = 0xff
	headNull  = 0xf6
)

var majorNames = [8]string{
	"an unsigned integer", "a negative integer", "a byte string", "a text string",
	"an array", "a map", "a tag", "a simple value or float",
}

// reader reads CBOR items from data, which it never copies.
type reader struct {
	data []byte
	pos  int
}

// item is the head of a CBOR item: its type and argument.
type item struct {
	major      byte
	arg        uint64
	indefinite bool
}

func (it item) String() string {
	switch {
	case it.indefinite:
		return majorNames[it.major] + " of indefinite length"
	case it.major == majorSimple && it.arg == simpleNull:
		return "null"
	}
	return majorNames[it.major]
}

func (r *reader) malformed(field, format string, args ...any) error {
	return fail(ReasonMalformedCBOR, field, "%s, at byte %d", fmt.Sprintf(format, args...), r.pos)
}

// head reads an item's head. It accepts an indefinite length, which only the
// payload map may have: every caller but that one refuses it.
func (r *reader) head(field string) (item, error) {
	if r.pos >= len(r.data) {
		return item{}, r.malformed(field, "the input ends where an item should begin")
	}
	first := r.data[r.pos]
	it := item{major: first >> 5}
	additional := first & 0x1f
	width := 0
	switch {
	case additional < 24:
		it.arg = uint64(additional)
	case additional <= 27:
		width = 1 << (additional - 24)
	case additional == additionalIndefinite && it.major >= majorBytes && it.major <= majorMap:
		it.indefinite = true
	default:
		return item{}, r.malformed(field, "head byte 0x%02x is reserved or out of place", first)
	}
	if len(r.data)-r.pos-1 < width {
		return item{}, r.malformed(field, "the input ends inside an item's head")
	}
	for _, b := range r.data[r.pos+1 : r.pos+1+width] {
		it.arg = it.arg<<8 | uint64(b)
	}
	// RFC 8949, section 4.2.1: the argument in as few bytes as hold it. Any
	// other width would be a second way to write the same document.
	shortest := width == 0 ||
		width == 1 && it.arg >= 24 ||
		width == 2 && it.arg > math.MaxUint8 ||
		width == 4 && it.arg > math.MaxUint16 ||
		width == 8 && it.arg > math.MaxUint32
	if !shortest && it.major != majorSimple {
		return item{}, r.malformed(field, "the number %d is not in its shortest form", it.arg)
	}
	if it.major == majorSimple && width > 0 {
		return item{}, r.malformed(field, "floats and extended simple values do not belong here")
	}
	r.pos += 1 + width
	return it, nil
}

// expect reads a head that must be definite and of the given type.
func (r *reader) expect(field string, major byte) (uint64, error) {
	start := r.pos
	it, err := r.head(field)
	if err != nil {
		return 0, err
	}
	if it.major != major {
		r.pos = start
		return 0, fail(ReasonFieldType, field, "is %v, not %s", it, majorNames[major])
	}
	if it.indefinite {
		r.pos = start
		return 0, r.malformed(field, "an indefinite length does not belong here")
	}
	return it.arg, nil
}

// take returns the next n bytes.
func (r *reader) take(field string, n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.pos) {
		return nil, r.malformed(field, "%d bytes are announced and %d are left", n, len(r.data)-r.pos)
	}
	b := r.data[r.pos : r.pos+int(n) : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

// bytes reads a byte string of low to high bytes.
func (r *reader) bytes(field string, low, high int, sizeReason Reason) ([]byte, error) {
	n, err := r.expect(field, majorBytes)
	if err != nil {
		return nil, err
	}
	if n < uint64(low) || n > uint64(high) {
		want := fmt.Sprintf("%d to %d", low, high)
		if low == high {
			want = fmt.Sprint(low)
		}
		return nil, fail(sizeReason, field, "is %d bytes, not %s", n, want)
	}
	return r.take(field, n)
}

// optionalBytes reads a byte string of at most high bytes, or null.
func (r *reader) optionalBytes(field string, high int) ([]byte, error) {
	if r.isNull() {
		r.pos++
		return nil, nil
	}
	return r.bytes(field, 0, high, ReasonFieldSize)
}

func (r *reader) isNull() bool { return r.pos < len(r.data) && r.data[r.pos] == headNull }

// text reads a UTF-8 string of low to high bytes.
func (r *reader) text(field string, low, high int) (string, error) {
	n, err := r.expect(field, majorText)
	if err != nil {
		return "", err
	}
	if n < uint64(low) || n > uint64(high) {
		return "", fail(ReasonFieldSize, field, "is %d bytes, not %d to %d", n, low, high)
	}
	b, err := r.utf8(field, n)
	return string(b), err
}

// utf8 returns the next n bytes, which must be text.
func (r *reader) utf8(field string, n uint64) ([]byte, error) {
	b, err := r.take(field, n)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, r.malformed(field, "a text string that is not UTF-8")
	}
	return b, nil
}

// skip passes over one item of a field that this version does not know. Tags,
// floats, undefined and indefinite lengths are refused there too.
func (r *reader) skip(field string, depth int) error {
	it, err := r.head(field)
	if err != nil {
		return err
	}
	if it.indefinite {
		return r.malformed(field, "an indefinite length does not belong here")
	}
	switch it.major {
	case majorUint, majorNegint:
		return nil
	case majorBytes:
		_, err := r.take(field, it.arg)
		return err
	case majorText:
		_, err := r.utf8(field, it.arg)
		return err
	case majorSimple:
		if it.arg == simpleFalse || it.arg == simpleTrue || it.arg == simpleNull {
			return nil
		}
	case majorArray, majorMap:
		if depth == 0 {
			return r.malformed(field, "nests deeper than %d", maxSkipDepth)
		}
		// Every element takes a byte at least, so a count over what is left
		// is a lie, and believing it would keep this loop busy.
		if it.arg > uint64(len(r.data)-r.pos) {
			return r.malformed(field, "%d elements are announced and %d bytes are left", it.arg, len(r.data)-r.pos)
		}
		if it.major == majorMap {
			return r.skipMap(field, it.arg, depth)
		}
		for range it.arg {
			if err := r.skip(field, depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	return fail(ReasonFieldType, field, "holds %v, which does not belong in a document", it)
}

// skipMap passes over the entries of a map, whose keys must differ.
func (r *reader) skipMap(field string, entries uint64, depth int) error {
	keys := map[string]bool{}
	for range entries {
		start := r.pos
		if err := r.skip(field, depth-1); err != nil {
			return err
		}
		key := string(r.data[start:r.pos])
		if keys[key] {
			return fail(ReasonFieldDuplicate, field, "holds a map with a key twice, at byte %d", start)
		}
		keys[key] = true
		if err := r.skip(field, depth-1); err != nil {
			return err
		}
	}
	return nil
}

// end refuses bytes after the last item.
func (r *reader) end(field string) error {
	if left := len(r.data) - r.pos; left > 0 {
		return fail(ReasonTrailingBytes, field, "%d bytes follow where it should end, at byte %d", left, r.pos)
	}
	return nil
}
