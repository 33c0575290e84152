package eif

import (
	"maps"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
)

// Image is what an enclave image file holds, and its measurements.
//
// Nothing measures Metadata: whoever hands the file on can change it. An enclave with
// the same PCRs may have another command line; see the package documentation.
type Image struct {
	// Version is the version of the format, 2 to 4.
	Version uint16
	// Architecture is the processor that the image is for.
	Architecture Architecture
	// DefaultMemory is the memory to run it with, in bytes, and DefaultCPUs the
	// number of processors. No tool of AWS's uses them.
	DefaultMemory, DefaultCPUs uint64
	// Sections lists the sections in file order.
	Sections []Section
	// Cmdline is the kernel's command line.
	Cmdline string
	// Metadata says who built the image, of what; nil before version 4.
	Metadata *Metadata
	// Signature is verified with the certificate beside it; nil if there is none.
	// It does not tell who signed: see Signature.
	Signature *Signature
	// PCRs has PCR0, PCR1 and PCR2 and, if the image is signed, PCR8.
	PCRs map[int]attestation.PCR
	// CRC is the CRC-32 in the header, which is that of the file.
	CRC uint32
	// Size is the size of the file in bytes.
	Size int64
}

// Section is a part of the file.
type Section struct {
	Type SectionType
	// Offset is where its data begin in the file, after the section's header,
	// and Size their size, both in bytes.
	Offset, Size int64
}

// Measurement returns the image's PCRs for a policy, under the name and version in its
// metadata.
func (i *Image) Measurement() attestation.Measurement {
	m := attestation.Measurement{PCRs: maps.Clone(i.PCRs)}
	if i.Metadata != nil {
		m.Name = strings.TrimSpace(i.Metadata.ImageName + " " + i.Metadata.ImageVersion)
	}
	return m
}
