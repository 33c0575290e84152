package eif

import (
	"errors"
	"testing"
)

// A section's header may stand where the image may end, and even its data would
// then begin behind that. No test reads so much, so this one asks the check alone.
func TestSectionsEndWithTheImage(t *testing.T) {
	for _, test := range []struct {
		begins int64
		size   uint64
		ok     bool
	}{
		{MaxImageSize - 10, 10, true},
		{MaxImageSize - 10, 11, false},
		{MaxImageSize, 0, true},
		{MaxImageSize, 1, false},
		{MaxImageSize + SectionHeaderSize, 1, false},
		{MaxImageSize + SectionHeaderSize, MaxImageSize, false},
	} {
		d := decoder{header: &header{Version: currentVersion}, image: &Image{Sections: []Section{{Type: Kernel}}}, offset: test.begins}
		d.header.Sizes[0] = test.size
		err := d.checkSection(0, test.begins-SectionHeaderSize, sectionHeader{Type: Ramdisk, Size: test.size})
		if e, refused := errors.AsType[*Error](err); refused == test.ok || refused && e.Reason != ReasonSectionSize {
			t.Errorf("%d bytes from byte %d on: %v", test.size, test.begins, err)
		}
	}
}
