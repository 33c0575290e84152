package cms

import "fmt"

// Tag bytes (X.690 section 8.1.2) of the elements in the envelope.
const (
	tagEndOfContents = 0x00
	tagInteger       = 0x02
	tagOctetString   = 0x04
	tagNull          = 0x05
	tagOID           = 0x06
	tagSequence      = 0x30
	tagSet           = 0x31
	tagContext0      = 0x80 // primitive, implicit
	tagContext0Cons  = 0xa0
	tagContext1Cons  = 0xa1
	tagContext2Cons  = 0xa2
)

// lengthForms says which forms of a constructed element's length are accepted.
type lengthForms bool

const (
	definite  lengthForms = false
	anyLength lengthForms = true
)

// reader walks BER from front to back. It keeps the first error and then does
// nothing more, so that the code that walks can be read as the structure it
// expects. It allocates only that error.
type reader struct {
	data []byte
	off  int
	end  int // of the element being read, exclusive
	err  *Error
}

// element is a constructed element that has been entered.
type element struct {
	outerEnd   int
	indefinite bool
}

func (r *reader) fail(offset int, reason Reason, detail string) {
	if r.err == nil {
		r.err = &Error{Reason: reason, Offset: offset, Detail: detail}
	}
}

func (r *reader) failf(offset int, reason Reason, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Reason: reason, Offset: offset, Detail: fmt.Sprintf(format, args...)}
	}
}

// more reports whether the element being read has another one in it. For an
// element of indefinite length that means: the next is not end-of-contents.
func (r *reader) more(e element) bool {
	if r.err != nil || r.off >= r.end {
		return false
	}
	return !e.indefinite || r.data[r.off] != tagEndOfContents
}

// next reports whether the next element has the tag.
func (r *reader) next(tag byte) bool {
	return r.err == nil && r.off < r.end && r.data[r.off] == tag
}

// header reads a tag and a length and returns the length, or -1 for an
// indefinite one.
func (r *reader) header(tag byte, what string) int {
	if r.err != nil {
		return 0
	}
	start := r.off
	if r.off >= r.end {
		if r.end == len(r.data) {
			r.failf(start, ReasonTruncated, "the envelope ends where %s must be", what)
		} else {
			r.failf(start, ReasonTag, "the element ends where %s must be", what)
		}
		return 0
	}
	if got := r.data[r.off]; got != tag {
		r.failf(start, ReasonTag, "tag %#02x where %s with tag %#02x must be", got, what, tag)
		return 0
	}
	r.off++
	if r.off >= r.end {
		r.failf(start, ReasonTruncated, "%s has no length", what)
		return 0
	}
	first := int(r.data[r.off])
	r.off++
	switch {
	case first == 0x80:
		return -1
	case first < 0x80:
		return r.within(start, first, what)
	}
	count := first & 0x7f
	if count > 4 {
		r.failf(start, ReasonLength, "length of %s has %d bytes, at most 4 are accepted", what, count)
		return 0
	}
	if count > r.end-r.off {
		r.failf(start, ReasonTruncated, "length of %s is cut off", what)
		return 0
	}
	var length uint64
	for _, b := range r.data[r.off : r.off+count] {
		length = length<<8 | uint64(b)
	}
	if length < 0x80 || length>>(8*(count-1)) == 0 {
		r.failf(start, ReasonLength, "length %d of %s is not in its shortest form", length, what)
		return 0
	}
	r.off += count
	// Compare before converting: an int may have 32 bits.
	if length > uint64(r.end-r.off) {
		r.overrun(start, length, what)
		return 0
	}
	return int(length)
}

func (r *reader) within(start, length int, what string) int {
	if length > r.end-r.off {
		r.overrun(start, uint64(length), what)
		return 0
	}
	return length
}

func (r *reader) overrun(start int, length uint64, what string) {
	reason := ReasonLength
	if r.end == len(r.data) {
		reason = ReasonTruncated
	}
	r.failf(start, reason, "%s claims %d bytes, %d are left", what, length, r.end-r.off)
}

// enter reads the header of a constructed element. Every enter needs a leave.
func (r *reader) enter(tag byte, forms lengthForms, what string) element {
	start := r.off
	length := r.header(tag, what)
	e := element{outerEnd: r.end}
	if r.err != nil {
		return e
	}
	if length < 0 {
		if forms == definite {
			r.failf(start, ReasonLength, "%s has an indefinite length", what)
		}
		e.indefinite = true
		return e
	}
	r.end = r.off + length
	return e
}

// leave checks that the element ends here and goes back to the one around it.
func (r *reader) leave(e element, what string) {
	if r.err != nil {
		return
	}
	if !e.indefinite {
		if r.off != r.end {
			r.failf(r.off, ReasonTrailingBytes, "%d bytes too many in %s", r.end-r.off, what)
		}
		r.end = e.outerEnd
		return
	}
	if r.end-r.off < 2 {
		r.failf(r.off, ReasonEndOfContents, "%s is not closed", what)
		return
	}
	if r.data[r.off] != tagEndOfContents || r.data[r.off+1] != 0 {
		r.failf(r.off, ReasonEndOfContents, "% x where 00 00 must close %s", r.data[r.off:r.off+2], what)
		return
	}
	r.off += 2
}

// primitive reads an element that holds bytes and returns them, part of the
// envelope.
func (r *reader) primitive(tag byte, what string) []byte {
	start := r.off
	length := r.header(tag, what)
	if r.err != nil {
		return nil
	}
	if length < 0 {
		r.failf(start, ReasonLength, "%s has an indefinite length", what)
		return nil
	}
	value := r.data[r.off : r.off+length : r.off+length]
	r.off += length
	return value
}

// oid reads an object identifier that must be the given one.
func (r *reader) oid(want string, reason Reason, what string) {
	start := r.off
	if got := r.primitive(tagOID, what); r.err == nil && string(got) != want {
		r.failf(start, reason, "%s is % x, must be % x", what, got, want)
	}
}

// integer reads an INTEGER that must be the given small one.
func (r *reader) integer(want byte, reason Reason, what string) {
	start := r.off
	if got := r.primitive(tagInteger, what); r.err == nil && (len(got) != 1 || got[0] != want) {
		r.failf(start, reason, "%s is % x, must be %d", what, got, want)
	}
}
