package eif

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"maps"

	"github.com/keyvouch/keyvouch/attestation"
)

// Source is the bytes of a part of an image. *bytes.Reader, *strings.Reader and
// *io.SectionReader are Sources; wrap an *os.File in the last. [Write] reads a Source
// more than once and refuses one whose bytes change.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Contents is what an image is made of.
type Contents struct {
	// Architecture is the processor of the kernel, X86_64 by default.
	Architecture Architecture
	// DefaultMemory is the memory to run the image with, in bytes; zero means
	// the constant DefaultMemory. DefaultCPUs is the number of processors; zero
	// means the constant DefaultCPUs. No tool of AWS's uses them.
	DefaultMemory, DefaultCPUs uint64
	// Kernel is a bzImage for x86_64, an uncompressed Image for aarch64.
	Kernel Source
	// Cmdline is the kernel's command line, at most MaxCmdlineSize bytes, without
	// a zero byte.
	Cmdline string
	// Ramdisks are cpio archives, compressed or not, at least one. PCR1 has the
	// first of them, which holds the init program in nitro-cli's images, and PCR2
	// the others.
	Ramdisks []Source
	// Metadata names the image. It holds no time unless you set one, since that
	// would make each build another file.
	Metadata Metadata
	// Signer signs the image; nil leaves it unsigned.
	Signer *Signer
}

// Write writes an image of version 4 to w, and returns what [Read] would. The sections
// are in the order of AWS's builder: kernel, command line, metadata, ram disks,
// signature.
//
// The same contents make the same bytes; for the signature see Signer.Key. Each Source
// is read twice, since the checksum is in the header, and three times for a signed
// image. Memory does not grow with their size.
//
// The error is an [*Error]. After one, w may hold the beginning of an image.
func Write(w io.Writer, c Contents) (*Image, error) {
	image, err := write(w, c)
	if err != nil {
		return nil, named("Write", err)
	}
	return image, nil
}

func write(w io.Writer, c Contents) (*Image, error) {
	metadata, err := c.check()
	if err != nil {
		return nil, err
	}
	sections := []part{
		newPart(Kernel, c.Kernel),
		newPart(Cmdline, bytes.NewReader([]byte(c.Cmdline))),
		newPart(MetadataJSON, bytes.NewReader(metadata)),
	}
	for _, ramdisk := range c.Ramdisks {
		sections = append(sections, newPart(Ramdisk, ramdisk))
	}

	image := &Image{
		Version: currentVersion, Architecture: c.Architecture,
		DefaultMemory: c.DefaultMemory, DefaultCPUs: c.DefaultCPUs, Cmdline: c.Cmdline,
	}
	if image.DefaultMemory == 0 {
		image.DefaultMemory = DefaultMemory
	}
	if image.DefaultCPUs == 0 {
		image.DefaultCPUs = DefaultCPUs
	}
	image.Metadata, err = parseMetadata(metadata)
	if err != nil {
		return nil, invalid("Metadata", "%v", err)
	}

	var signed map[int]attestation.PCR
	if c.Signer != nil {
		m := newMeasurer()
		if err := emit(io.Discard, m, sections); err != nil {
			return nil, err
		}
		signed = m.pcrs()
		signature, err := c.Signer.sign(signed[attestation.PCRImage])
		if err != nil {
			return nil, failWith(err, ReasonInvalidContents, "Signer", -1, "")
		}
		sections = append(sections, newPart(SignatureData, bytes.NewReader(signature)))
		// A key behind an interface may sign anything: what the reader refuses
		// is not written.
		image.Signature, err = verifySignature(signature, signed[attestation.PCRImage], "Signer", -1)
		if err != nil {
			return nil, err
		}
	}

	header := image.layOut(sections)
	if image.Size > MaxImageSize {
		return nil, invalid("Ramdisks", "make an image of %d bytes, more than %d", image.Size, int64(MaxImageSize))
	}
	raw := header.encode()
	sum := crc32.NewIEEE()
	sum.Write(raw[:crcOffset])
	if err := emit(sum, nil, sections); err != nil {
		return nil, err
	}
	header.CRC = sum.Sum32()
	image.CRC = header.CRC

	raw = header.encode()
	if _, err := w.Write(raw); err != nil {
		return nil, failWith(err, ReasonWrite, "", 0, "")
	}
	written := crc32.NewIEEE()
	written.Write(raw[:crcOffset])
	m := newMeasurer()
	if err := emit(io.MultiWriter(w, written), m, sections); err != nil {
		return nil, err
	}
	image.PCRs = m.pcrs()
	// What was signed and summed must be what was written.
	if written.Sum32() != header.CRC || signed != nil && !maps.Equal(signed, image.PCRs) {
		return nil, fail(ReasonSourceChanged, "", -1, "the kernel or a ram disk gave other bytes when it was read again; the file that was written is no image")
	}
	if image.Signature != nil {
		image.PCRs[attestation.PCRSigner] = attestation.SignerPCR(image.Signature.Certificate)
	}
	return image, nil
}

// part is a section to be written.
type part struct {
	kind SectionType
	data Source
	size int64
}

func newPart(kind SectionType, data Source) part { return part{kind, data, data.Size()} }

func invalid(place, format string, args ...any) error {
	return fail(ReasonInvalidContents, place, -1, format, args...)
}

// check refuses contents of which no image can be made, and returns the metadata
// as they are written.
func (c *Contents) check() ([]byte, error) {
	sections := 3 + len(c.Ramdisks)
	if c.Signer != nil {
		sections++
	}
	switch {
	case c.Architecture != X86_64 && c.Architecture != AArch64:
		return nil, invalid("Architecture", "%d is none", uint16(c.Architecture))
	case c.Kernel == nil || c.Kernel.Size() <= 0:
		return nil, invalid("Kernel", "is missing or empty")
	case len(c.Cmdline) > MaxCmdlineSize:
		return nil, invalid("Cmdline", "has %d bytes, more than %d", len(c.Cmdline), MaxCmdlineSize)
	case bytes.IndexByte([]byte(c.Cmdline), 0) >= 0:
		return nil, invalid("Cmdline", "holds a zero byte, which ends it for the kernel but not for the PCRs")
	case len(c.Ramdisks) == 0:
		return nil, invalid("Ramdisks", "is empty; an image needs one, with its init program")
	case sections > MaxSections:
		return nil, invalid("Ramdisks", "make %d sections, more than %d", sections, MaxSections)
	}
	size := int64(0)
	for i, source := range append([]Source{c.Kernel}, c.Ramdisks...) {
		if source == nil || source.Size() < 0 {
			return nil, invalid(fmt.Sprintf("Ramdisks[%d]", i-1), "is missing")
		}
		if size += source.Size(); source.Size() > MaxImageSize || size > MaxImageSize {
			return nil, invalid("Ramdisks", "kernel and ram disks have more than %d bytes", int64(MaxImageSize))
		}
	}
	if c.Signer != nil {
		if _, err := c.Signer.algorithm(); err != nil {
			return nil, failWith(err, ReasonInvalidContents, "Signer", -1, "")
		}
	}
	metadata, err := c.Metadata.encode()
	if err != nil {
		return nil, failWith(err, ReasonInvalidContents, "Metadata", -1, "")
	}
	if len(metadata) > MaxMetadataSize {
		return nil, invalid("Metadata", "have %d bytes, more than %d", len(metadata), MaxMetadataSize)
	}
	return metadata, nil
}

// layOut sets where each section stands, and the size of the whole, and makes the
// header that says so, all but the checksum.
func (i *Image) layOut(sections []part) *header {
	h := &header{
		Magic: [4]byte([]byte(magic)), Version: i.Version, Flags: uint16(i.Architecture),
		DefaultMemory: i.DefaultMemory, DefaultCPUs: i.DefaultCPUs, NumSections: uint16(len(sections)),
	}
	i.Size = HeaderSize
	for n, s := range sections {
		h.Offsets[n], h.Sizes[n] = uint64(i.Size), uint64(s.size)
		i.Sections = append(i.Sections, Section{Type: s.kind, Offset: i.Size + SectionHeaderSize, Size: s.size})
		i.Size += SectionHeaderSize + s.size
	}
	return h
}

// emit writes all after the file's header, and measures it if m is not nil.
func emit(w io.Writer, m *measurer, sections []part) error {
	chunk := make([]byte, chunkSize)
	for i, s := range sections {
		if m != nil {
			if err := m.begin(s.kind); err != nil {
				return failWith(err, ReasonRead, placeOf(i, s.kind), -1, "")
			}
		}
		if _, err := w.Write(sectionHeader{Type: s.kind, Size: uint64(s.size)}.encode()); err != nil {
			return failWith(err, ReasonWrite, placeOf(i, s.kind), -1, "")
		}
		for done := int64(0); done < s.size; {
			part := chunk[:min(s.size-done, chunkSize)]
			// ReadAt fills all of it or says why not, perhaps io.EOF beside the end.
			if n, err := s.data.ReadAt(part, done); n < len(part) {
				if err == nil || err == io.EOF {
					return fail(ReasonSourceChanged, placeOf(i, s.kind), -1, "ends after %d of its %d bytes", done+int64(n), s.size)
				}
				return failWith(err, ReasonRead, placeOf(i, s.kind), -1, "")
			}
			if m != nil {
				m.write(part)
			}
			if _, err := w.Write(part); err != nil {
				return failWith(err, ReasonWrite, placeOf(i, s.kind), -1, "")
			}
			done += int64(len(part))
		}
	}
	return nil
}
