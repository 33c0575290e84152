package eif_test

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// Where fields of the header begin, from the specification.
const (
	atVersion     = 4
	atFlags       = 6
	atReserved    = 24
	atNumSections = 26
	atOffsets     = 28
	atSizes       = 284
	atUnused      = 540
	atCRC         = 544
)

// section is a section of an image that Write would not make.
type section struct {
	kind eif.SectionType
	data string
}

// assemble makes a file of any sections in any order, with a table and a checksum
// that are right.
func assemble(version uint16, sections ...section) []byte {
	file := make([]byte, eif.HeaderSize)
	copy(file, ".eif")
	binary.BigEndian.PutUint16(file[atVersion:], version)
	binary.BigEndian.PutUint16(file[atNumSections:], uint16(len(sections)))
	for i, s := range sections {
		if i < eif.MaxSections {
			binary.BigEndian.PutUint64(file[atOffsets+8*i:], uint64(len(file)))
			binary.BigEndian.PutUint64(file[atSizes+8*i:], uint64(len(s.data)))
		}
		file = binary.BigEndian.AppendUint16(file, uint16(s.kind))
		file = binary.BigEndian.AppendUint16(file, 0)
		file = binary.BigEndian.AppendUint64(file, uint64(len(s.data)))
		file = append(file, s.data...)
	}
	return resum(file)
}

// resum sets the checksum to that of the file.
func resum(file []byte) []byte {
	if len(file) >= eif.HeaderSize {
		sum := crc32.Update(crc32.ChecksumIEEE(file[:atCRC]), crc32.IEEETable, file[eif.HeaderSize:])
		binary.BigEndian.PutUint32(file[atCRC:], sum)
	}
	return file
}

// set16 and set64 change a field, and the checksum with it.
func set16(file []byte, offset int, value uint16) []byte {
	file = append([]byte(nil), file...)
	binary.BigEndian.PutUint16(file[offset:], value)
	return resum(file)
}

func set64(file []byte, offset int, value uint64) []byte {
	file = append([]byte(nil), file...)
	binary.BigEndian.PutUint64(file[offset:], value)
	return resum(file)
}
