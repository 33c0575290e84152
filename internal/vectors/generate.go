package vectors

import (
	"maps"
	"slices"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// Generate makes all vectors, with new keys.
func Generate() ([]File, error) {
	l, err := newLab()
	if err != nil {
		return nil, err
	}
	files := []File{
		l.certificates(),
		l.chains(),
		l.malformed(),
		l.envelope(),
		l.fieldValues(),
		l.payload(),
		l.policies(),
	}
	return files, l.err
}

// newFile makes a file that trusts the lab's root.
func (l *lab) newFile(subject, comment string) *File {
	return &File{Subject: subject, Comment: comment, Roots: [][]byte{l.pki.Root().Raw}}
}

// change makes a vector differ from the usual: a verifier at noon whose policy
// accepts the lab's enclave and that sent its nonce.
type change func(*Vector)

func (f *File) accept(name, comment string, document []byte, changes ...change) {
	f.add(Vector{Name: name, Comment: comment, Result: Accept, Document: document}, changes)
}

func (f *File) reject(reason attestation.Reason, name, comment string, document []byte, changes ...change) {
	f.add(Vector{Name: name, Comment: comment, Result: Reject, Reason: reason, Document: document}, changes)
}

func (f *File) add(v Vector, changes []change) {
	v.Time = noon
	v.Policy = Policy{Measurements: []Measurement{release()}}
	v.Expect = Expect{Nonce: nonce}
	for _, c := range changes {
		c(&v)
	}
	f.Vectors = append(f.Vectors, v)
}

// release is the measurement of the lab's enclave.
func release() Measurement { return measurementOf("release", image) }

func measurementOf(name string, image []byte) Measurement {
	pcr0, pcr1, pcr2 := nsmtest.Measure(image)
	return Measurement{Name: name, PCRs: map[int]string{
		0: attestation.PCR(pcr0).String(), 1: attestation.PCR(pcr1).String(), 2: attestation.PCR(pcr2).String(),
	}}
}

// with sets one PCR of a copy.
func (m Measurement) with(index int, value string) Measurement {
	m.PCRs = maps.Clone(m.PCRs)
	m.PCRs[index] = value
	return m
}

// only keeps some PCRs of a copy.
func (m Measurement) only(indices ...int) Measurement {
	m.PCRs = maps.Clone(m.PCRs)
	maps.DeleteFunc(m.PCRs, func(index int, _ string) bool { return !slices.Contains(indices, index) })
	return m
}
