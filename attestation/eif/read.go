package eif

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/keyvouch/keyvouch/attestation"
)

// Read reads an image from r, once and to its end. It measures the image, and verifies
// its checksum and any signature. It refuses what no builder writes, even where AWS's
// tools accept it, such as bytes after the last section.
//
// It holds at most 128 KiB of the kernel and the ram disks at a time, and of the rest
// at most [MaxCmdlineSize], [MaxMetadataSize] and [MaxSignatureSize].
//
// The error is an [*Error], and the Image beside it is nil.
func Read(r io.Reader) (*Image, error) {
	image, err := read(r)
	if err != nil {
		return nil, named("Read", err)
	}
	return image, nil
}

func read(r io.Reader) (*Image, error) {
	d := decoder{r: r, measurer: newMeasurer(), image: &Image{}}
	if err := d.readHeader(); err != nil {
		return nil, err
	}
	for i := range int(d.header.NumSections) {
		if err := d.readSection(i); err != nil {
			return nil, err
		}
	}
	if err := d.complete(); err != nil {
		return nil, err
	}
	return d.image, nil
}

// decoder is the state of one Read.
type decoder struct {
	r        io.Reader
	offset   int64 // of the next byte
	crc      uint32
	header   *header
	measurer *measurer
	image    *Image
	chunk    []byte

	signature        []byte
	signatureSection int
}

// full reads len(b) bytes of what place names and what ends at byte end.
func (d *decoder) full(b []byte, place string, end uint64) error {
	n, err := io.ReadFull(d.r, b)
	d.offset += int64(n)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fail(ReasonTruncated, place, d.offset, "the file ends here, and this should go on to byte %d; was it copied in full?", end)
	case err != nil:
		return failWith(err, ReasonRead, place, d.offset, "")
	}
	return nil
}

func (d *decoder) sum(b []byte) { d.crc = crc32.Update(d.crc, crc32.IEEETable, b) }

func (d *decoder) readHeader() error {
	var raw [HeaderSize]byte
	// The magic first, so that a short file of another kind is called that.
	if err := d.full(raw[:len(magic)], "header", HeaderSize); err != nil {
		return err
	}
	if string(raw[:len(magic)]) != magic {
		return fail(ReasonMagic, "header", 0, "begins with %q, not %q: this is no enclave image", raw[:len(magic)], magic)
	}
	if err := d.full(raw[len(magic):], "header", HeaderSize); err != nil {
		return err
	}
	d.sum(raw[:crcOffset])
	d.header = parseHeader(&raw)
	h := d.header
	if h.Version < minVersion || h.Version > currentVersion {
		return fail(ReasonVersion, "version", versionOffset, "is %d, not %d to %d", h.Version, minVersion, currentVersion)
	}
	if h.NumSections < minSections || h.NumSections > MaxSections {
		return fail(ReasonSectionCount, "num_sections", numSectionsOffset, "is %d, not %d to %d", h.NumSections, minSections, MaxSections)
	}
	const arm64 = uint16(AArch64)
	switch {
	case h.Flags&^arm64 != 0:
		return fail(ReasonReserved, "flags", flagsOffset, "are 0x%04x, and only bit 0 has a meaning", h.Flags)
	case h.Reserved != 0:
		return fail(ReasonReserved, "reserved", reservedOffset, "is %d, not 0", h.Reserved)
	case h.Unused != 0:
		return fail(ReasonReserved, "unused", unusedOffset, "is %d, not 0", h.Unused)
	}
	for i := int(h.NumSections); i < MaxSections; i++ {
		switch {
		case h.Offsets[i] != 0:
			return fail(ReasonReserved, fmt.Sprintf("section_offsets[%d]", i), offsetsOffset+8*int64(i), "is %d, not 0: there are %d sections", h.Offsets[i], h.NumSections)
		case h.Sizes[i] != 0:
			return fail(ReasonReserved, fmt.Sprintf("section_sizes[%d]", i), sizesOffset+8*int64(i), "is %d, not 0: there are %d sections", h.Sizes[i], h.NumSections)
		}
	}
	d.image.Version = h.Version
	d.image.Architecture = Architecture(h.Flags)
	d.image.DefaultMemory = h.DefaultMemory
	d.image.DefaultCPUs = h.DefaultCPUs
	return nil
}

// placeOf names section i.
func placeOf(i int, t SectionType) string { return fmt.Sprintf("section %d (%v)", i, t) }

func (d *decoder) readSection(i int) error {
	start := d.offset
	if d.header.Offsets[i] != uint64(start) {
		return fail(ReasonSectionTable, fmt.Sprintf("section_offsets[%d]", i), offsetsOffset+8*int64(i), "is %d, but section %d begins at byte %d", d.header.Offsets[i], i, start)
	}
	var raw [SectionHeaderSize]byte
	if err := d.full(raw[:], fmt.Sprintf("header of section %d", i), uint64(start+SectionHeaderSize)); err != nil {
		return err
	}
	d.sum(raw[:])
	h := parseSectionHeader(&raw)
	if err := d.checkSection(i, start, h); err != nil {
		return err
	}
	d.image.Sections = append(d.image.Sections, Section{Type: h.Type, Offset: d.offset, Size: int64(h.Size)})
	if err := d.measurer.begin(h.Type); err != nil {
		return failWith(err, ReasonRead, placeOf(i, h.Type), start, "")
	}

	var kept *bytes.Buffer // sections that are looked into, and bounded
	if h.Type != Kernel && h.Type != Ramdisk {
		kept = new(bytes.Buffer)
	}
	if d.chunk == nil {
		d.chunk = make([]byte, chunkSize)
	}
	name, end := placeOf(i, h.Type), uint64(d.offset)+h.Size
	for left := h.Size; left > 0; {
		chunk := d.chunk[:min(left, chunkSize)]
		if err := d.full(chunk, name, end); err != nil {
			return err
		}
		d.measurer.write(chunk)
		d.sum(chunk)
		if kept != nil {
			kept.Write(chunk)
		}
		left -= uint64(len(chunk))
	}

	switch h.Type {
	case Cmdline:
		d.image.Cmdline = kept.String()
	case SignatureData:
		d.signature, d.signatureSection = kept.Bytes(), i
	case MetadataJSON:
		metadata, err := parseMetadata(kept.Bytes())
		if err != nil {
			return failWith(err, ReasonMetadata, name, start, "")
		}
		d.image.Metadata = metadata
	}
	return nil
}

// checkSection judges the header of section i before its data are read.
func (d *decoder) checkSection(i int, start int64, h sectionHeader) error {
	reject := func(reason Reason, format string, args ...any) error {
		return fail(reason, placeOf(i, h.Type), start, format, args...)
	}
	since := h.Type.since()
	switch {
	case since == 0:
		return reject(ReasonSectionType, "there are types 1 to 5 only")
	case since > d.header.Version:
		return reject(ReasonSectionType, "the type exists since version %d, and the image is of version %d", since, d.header.Version)
	case h.Flags != 0:
		return reject(ReasonReserved, "its flags are 0x%04x, not 0", h.Flags)
	case h.Size > h.Type.limit() || h.Size > uint64(max(0, MaxImageSize-d.offset)):
		return reject(ReasonSectionSize, "announces %d bytes; this package takes %d, and %d for the whole image", h.Size, h.Type.limit(), int64(MaxImageSize))
	case h.Size == 0 && h.Type == Kernel:
		return reject(ReasonSectionSize, "is empty")
	// AWS's tool leaves the size of the old signature in the table when it signs
	// a signed image anew.
	case h.Size != d.header.Sizes[i] && (h.Type != SignatureData || d.header.Sizes[i] > MaxSignatureSize):
		return reject(ReasonSectionTable, "has %d bytes, but section_sizes[%d] in the header is %d", h.Size, i, d.header.Sizes[i])
	case h.Type == Ramdisk && !d.has(Kernel):
		return reject(ReasonSectionOrder, "stands before the kernel")
	case h.Type != Ramdisk && d.has(h.Type):
		return reject(ReasonSectionDuplicate, "is the second of its type")
	}
	return nil
}

func (d *decoder) has(t SectionType) bool {
	return slices.ContainsFunc(d.image.Sections, func(s Section) bool { return s.Type == t })
}

// complete judges the whole, at the end of the last section.
func (d *decoder) complete() error {
	needed := []SectionType{Kernel, Cmdline, Ramdisk}
	if d.header.Version >= MetadataJSON.since() {
		needed = append(needed, MetadataJSON)
	}
	for _, t := range needed {
		if !d.has(t) {
			return fail(ReasonSectionMissing, t.String(), -1, "an image of version %d must have one", d.header.Version)
		}
	}
	switch n, err := io.ReadFull(d.r, d.chunk[:1]); {
	case n > 0:
		return fail(ReasonTrailingBytes, "", d.offset, "the last of the %d sections ends here, but the file goes on", d.header.NumSections)
	case !errors.Is(err, io.EOF):
		return failWith(err, ReasonRead, "", d.offset, "")
	}
	if d.crc != d.header.CRC {
		return fail(ReasonCRC, "eif_crc32", crcOffset, "is %08x, but the file's is %08x: it was damaged or altered", d.header.CRC, d.crc)
	}
	d.image.CRC = d.crc
	d.image.Size = d.offset
	d.image.PCRs = d.measurer.pcrs()
	if !d.has(SignatureData) {
		return nil
	}
	s := d.image.Sections[d.signatureSection]
	signature, err := verifySignature(d.signature, d.image.PCRs[attestation.PCRImage], placeOf(d.signatureSection, s.Type), s.Offset)
	if err != nil {
		return err
	}
	d.image.Signature = signature
	d.image.PCRs[attestation.PCRSigner] = attestation.SignerPCR(signature.Certificate)
	return nil
}
