package attestation

import (
	"crypto/x509"
	"math/bits"
)

// crypto/x509 reads what it knows of a certificate and passes over elements
// that follow where none may: in the Certificate and TBSCertificate sequences,
// the public key and basic constraints. Bytes there are signed, but they would
// let one certificate be two things to two readers, so they are refused.

// DER tags (X.690 section 8.1.2).
const (
	derBoolean     = 0x01
	derInteger     = 0x02
	derBitString   = 0x03
	derOID         = 0x06
	derSequence    = 0x30
	derVersion     = 0xa0 // [0] of TBSCertificate
	derIssuerUID   = 0x81 // [1]
	derSubjectUID  = 0x82 // [2]
	derExtensions  = 0xa3 // [3]
	derMaxElements = 16   // more than any of the sequences below has
)

// derElement is one element: its tag and content.
type derElement struct {
	tag     byte
	content []byte
}

// derElements splits DER into its elements, at most derMaxElements.
func derElements(der []byte) ([]derElement, bool) {
	var elements []derElement
	for len(der) > 0 {
		if len(der) < 2 || len(elements) == derMaxElements || der[0]&0x1f == 0x1f {
			return nil, false
		}
		tag, length, head := der[0], int(der[1]), 2
		if length >= 0x80 {
			// Certificates have at most MaxCertificateSize bytes, so that two
			// bytes hold every length there is.
			n := length & 0x7f
			if n == 0 || n > 2 || len(der) < 2+n {
				return nil, false
			}
			length, head = 0, 2+n
			for _, b := range der[2:head] {
				length = length<<8 | int(b)
			}
			if length < 0x80 || bits.Len(uint(length)) <= 8*(n-1) {
				return nil, false // not the shortest form
			}
		}
		if length > len(der)-head {
			return nil, false
		}
		elements = append(elements, derElement{tag, der[head : head+length]})
		der = der[head+length:]
	}
	return elements, true
}

// derSequenceOf returns the elements of the one sequence that der is.
func derSequenceOf(der []byte) ([]derElement, bool) {
	outer, ok := derElements(der)
	if !ok || len(outer) != 1 || outer[0].tag != derSequence {
		return nil, false
	}
	return derElements(outer[0].content)
}

// tagged reports whether the elements are of these tags, in this order. A tag
// with its optional bit set may be absent.
func tagged(elements []derElement, tags ...int) bool {
	i := 0
	for _, tag := range tags {
		switch {
		case i < len(elements) && int(elements[i].tag) == tag&0xff:
			i++
		case tag&optional == 0:
			return false
		}
	}
	return i == len(elements)
}

const optional = 0x100

// checkStrictDER refuses what crypto/x509 passes over.
func checkStrictDER(c *x509.Certificate) error {
	malformed := func(what string) error {
		return fail(ReasonCertificateMalformed, "", "its %s has elements or bytes that don't belong there", what)
	}
	// RFC 5280 section 4.1.
	certificate, ok := derSequenceOf(c.Raw)
	if !ok || !tagged(certificate, derSequence, derSequence, derBitString) {
		return malformed("Certificate")
	}
	tbs, ok := derSequenceOf(c.RawTBSCertificate)
	if !ok || !tagged(tbs, derVersion, derInteger, derSequence, derSequence, derSequence, derSequence, derSequence,
		derIssuerUID|optional, derSubjectUID|optional, derExtensions|optional) {
		return malformed("TBSCertificate")
	}
	spki, ok := derSequenceOf(c.RawSubjectPublicKeyInfo)
	if !ok || !tagged(spki, derSequence, derBitString) {
		return malformed("SubjectPublicKeyInfo")
	}
	for _, ext := range c.Extensions {
		switch {
		case ext.Id.Equal(oidBasicConstraints):
			if fields, ok := derSequenceOf(ext.Value); !ok || !tagged(fields, derBoolean|optional, derInteger|optional) {
				return malformed("basic constraints")
			}
		case ext.Id.Equal(oidKeyUsage):
			// At least one bit, after the count of unused ones.
			usage, ok := derElements(ext.Value)
			if !ok || !tagged(usage, derBitString) || len(usage[0].content) < 2 {
				return malformed("key usage")
			}
		}
	}
	return nil
}
