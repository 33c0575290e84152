package eif

import (
	"crypto/sha512"
	"hash"
	"sync"

	"github.com/keyvouch/keyvouch/attestation"
)

// measurer computes PCR0, PCR1 and PCR2 from the data of sections in file
// order.
//
// PCR0 and PCR1 hash the same bytes up to the second ram disk, so that one hash
// serves both until then. From there on each byte belongs to PCR0 and PCR2,
// which begin with different bytes and cannot share anything.
type measurer struct {
	image       hash.Hash // PCR0; and PCR1, while kernel is nil
	kernel      hash.Hash // PCR1 once it has parted from PCR0
	application hash.Hash // PCR2
	ramdisks    int
	section     SectionType
}

func newMeasurer() *measurer {
	return &measurer{image: sha512.New384(), application: sha512.New384()}
}

// begin says of what section the next bytes are.
func (m *measurer) begin(t SectionType) error {
	m.section = t
	if t != Ramdisk {
		return nil
	}
	m.ramdisks++
	if m.ramdisks != 2 {
		return nil
	}
	kernel, err := m.image.(hash.Cloner).Clone()
	m.kernel = kernel
	return err
}

func (m *measurer) write(data []byte) {
	switch {
	case m.section == Ramdisk && m.ramdisks > 1 && len(data) >= parallelChunk:
		var wg sync.WaitGroup
		wg.Go(func() { m.application.Write(data) })
		m.image.Write(data)
		wg.Wait()
	case m.section == Ramdisk && m.ramdisks > 1:
		m.image.Write(data)
		m.application.Write(data)
	case m.section == Ramdisk || m.section == Kernel || m.section == Cmdline:
		m.image.Write(data)
		if m.kernel != nil && m.section != Ramdisk {
			m.kernel.Write(data) // a command line after the ram disks
		}
	}
}

// pcrs gives the registers: of what was hashed, extended once (a register
// begins as zeros and becomes the hash of itself and the digest).
func (m *measurer) pcrs() map[int]attestation.PCR {
	kernel := m.kernel
	if kernel == nil {
		kernel = m.image
	}
	return map[int]attestation.PCR{
		attestation.PCRImage:       extend(m.image),
		attestation.PCRKernel:      extend(kernel),
		attestation.PCRApplication: extend(m.application),
	}
}

func extend(h hash.Hash) attestation.PCR {
	var register [attestation.PCRSize]byte
	return sha512.Sum384(h.Sum(register[:]))
}
