package eif

// Sizes of the format in bytes, and counts.
const (
	// HeaderSize is the size of the header of the file.
	HeaderSize = 548
	// SectionHeaderSize is the size of the header before each section's data.
	SectionHeaderSize = 12
	// MaxSections bounds the number of sections, by the header's tables.
	MaxSections = 32
	// MaxSignatureSize bounds the signature section.
	MaxSignatureSize = 32768

	crcOffset   = HeaderSize - 4
	minSections = 2 // by the specification, though fewer than 3 cannot be complete

	magic          = ".eif"
	minVersion     = 2
	currentVersion = 4
)

// Limits of this package, where the format has none. An image beyond them is
// refused.
const (
	// MaxImageSize bounds the file: an image is loaded into the enclave's memory,
	// and no instance has this much for one.
	MaxImageSize = 1 << 40
	// MaxCmdlineSize bounds the command line. Linux takes 2048 bytes.
	MaxCmdlineSize = 64 << 10
	// MaxMetadataSize bounds the metadata. With all that Docker says of an image
	// they have some 10,000 bytes.
	MaxMetadataSize = 1 << 20
)

// maxMembers bounds the members of the metadata, of which builders write five or so:
// each takes many times its own size in memory.
const maxMembers = 64

// Defaults of Contents, those of AWS's builder.
const (
	DefaultMemory = 1 << 30 // bytes
	DefaultCPUs   = 2
)

// chunkSize is how much of a file is in memory at a time: it fits a processor's
// cache, in which the same bytes are then hashed, summed and hashed again.
const chunkSize = 128 << 10

// parallelChunk is how many bytes make a second goroutine worth its start,
// which takes less than a thousandth of the time of hashing them.
const parallelChunk = 32 << 10
