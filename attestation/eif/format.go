package eif

import (
	"encoding/binary"
	"fmt"
)

// Architecture is the processor that an image is for.
type Architecture uint16

// The architectures, as bit 0 of the header's flags has them.
const (
	X86_64  Architecture = 0
	AArch64 Architecture = 1
)

// String gives the name that AWS's tools use: "x86_64" or "aarch64".
func (a Architecture) String() string {
	switch a {
	case X86_64:
		return "x86_64"
	case AArch64:
		return "aarch64"
	}
	return fmt.Sprintf("architecture %d", uint16(a))
}

// SectionType says what a section holds.
type SectionType uint16

// The types of sections.
const (
	Kernel        SectionType = 1 // a bzImage (x86_64) or Image (aarch64)
	Cmdline       SectionType = 2 // the kernel's command line, without a zero byte
	Ramdisk       SectionType = 3 // a cpio archive, compressed or not
	SignatureData SectionType = 4 // since version 3
	MetadataJSON  SectionType = 5 // since version 4
)

// String names the type.
func (t SectionType) String() string {
	switch t {
	case Kernel:
		return "kernel"
	case Cmdline:
		return "command line"
	case Ramdisk:
		return "ram disk"
	case SignatureData:
		return "signature"
	case MetadataJSON:
		return "metadata"
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// limit is the most bytes that the data of such a section may have.
func (t SectionType) limit() uint64 {
	switch t {
	case Cmdline:
		return MaxCmdlineSize
	case SignatureData:
		return MaxSignatureSize
	case MetadataJSON:
		return MaxMetadataSize
	}
	return MaxImageSize
}

// since is the first version of the format with such a section, or 0 if there
// is none.
func (t SectionType) since() uint16 {
	switch t {
	case Kernel, Cmdline, Ramdisk:
		return 2
	case SignatureData:
		return 3
	case MetadataJSON:
		return 4
	}
	return 0
}

// header is the header of the file. All of it is big-endian.
type header struct {
	Magic         [4]byte
	Version       uint16
	Flags         uint16
	DefaultMemory uint64
	DefaultCPUs   uint64
	Reserved      uint16
	NumSections   uint16
	Offsets       [MaxSections]uint64 // of section headers, from the file's start
	Sizes         [MaxSections]uint64 // of sections' data
	Unused        uint32
	CRC           uint32
}

// Where fields of the header begin, for messages.
const (
	versionOffset     = 4
	flagsOffset       = 6
	reservedOffset    = 24
	numSectionsOffset = 26
	offsetsOffset     = 28
	sizesOffset       = offsetsOffset + 8*MaxSections
	unusedOffset      = HeaderSize - 8
)

func parseHeader(raw *[HeaderSize]byte) *header {
	var h header
	if _, err := binary.Decode(raw[:], binary.BigEndian, &h); err != nil {
		panic(err) // the sizes are fixed, and equal
	}
	return &h
}

func (h *header) encode() []byte {
	raw, err := binary.Append(nil, binary.BigEndian, h)
	if err != nil {
		panic(err) // all of it is of fixed size
	}
	return raw
}

// sectionHeader stands before each section's data.
type sectionHeader struct {
	Type  SectionType
	Flags uint16
	Size  uint64
}

func parseSectionHeader(raw *[SectionHeaderSize]byte) sectionHeader {
	return sectionHeader{
		Type:  SectionType(binary.BigEndian.Uint16(raw[0:])),
		Flags: binary.BigEndian.Uint16(raw[2:]),
		Size:  binary.BigEndian.Uint64(raw[4:]),
	}
}

func (h sectionHeader) encode() []byte {
	raw := make([]byte, 0, SectionHeaderSize)
	raw = binary.BigEndian.AppendUint16(raw, uint16(h.Type))
	raw = binary.BigEndian.AppendUint16(raw, h.Flags)
	return binary.BigEndian.AppendUint64(raw, h.Size)
}
