package vectors

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
)

// DER tags (X.690 section 8.1.2).
const (
	derBoolean         = 0x01
	derInteger         = 0x02
	derBitString       = 0x03
	derOctetString     = 0x04
	derNull            = 0x05
	derOID             = 0x06
	derUTF8String      = 0x0c
	derPrintableString = 0x13
	derUTCTime         = 0x17
	derGeneralizedTime = 0x18
	derSequence        = 0x30
	derSet             = 0x31
	derVersion         = 0xa0
	derExtensions      = 0xa3
)

// der writes an element with its length in the shortest form.
func der(tag byte, content ...[]byte) []byte {
	c := join(content...)
	switch n := len(c); {
	case n < 0x80:
		return join([]byte{tag, byte(n)}, c)
	case n < 0x100:
		return join([]byte{tag, 0x81, byte(n)}, c)
	default:
		return join([]byte{tag, 0x82, byte(n >> 8), byte(n)}, c)
	}
}

// derContent returns what is in an element, and derTail puts more behind it.
func derContent(element []byte) []byte {
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(element, &v); err != nil {
		return nil
	}
	return v.Bytes
}

func derTail(element, more []byte) []byte {
	return der(element[0], derContent(element), more)
}

// derElements returns the elements in a sequence, heads included.
func derElements(sequence []byte) [][]byte {
	var values []asn1.RawValue
	if _, err := asn1.Unmarshal(sequence, &values); err != nil {
		return nil
	}
	var elements [][]byte
	for _, v := range values {
		elements = append(elements, v.FullBytes)
	}
	return elements
}

// anElement is what stands where nothing may.
var anElement = der(derNull)

var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidPolicyConstraint = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidExtendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidUnknown          = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
)

// Values of key usage extensions (RFC 5280, section 4.2.1.3).
var (
	usageSignDocuments    = []byte{derBitString, 2, 7, 0x80} // digitalSignature
	usageNonRepudiation   = []byte{derBitString, 2, 6, 0x40}
	usageSignCertificates = []byte{derBitString, 2, 2, 0x04}
	usageSignCRLs         = []byte{derBitString, 2, 1, 0x02}
	usageNone             = []byte{derBitString, 1, 0} // not even one bit
)

// noPathLength leaves the path length out.
const noPathLength = -1

// caConstraints is the value of basic constraints of a CA.
func caConstraints(pathLength int) []byte {
	ca := der(derBoolean, []byte{0xff})
	if pathLength == noPathLength {
		return der(derSequence, ca)
	}
	return der(derSequence, ca, der(derInteger, []byte{byte(pathLength)}))
}

// leafConstraints is the value of those of none.
func leafConstraints() []byte { return der(derSequence) }

func keyIDExtension(id []byte) []byte          { return der(derOctetString, id) }
func authorityKeyIDExtension(id []byte) []byte { return der(derSequence, der(0x80, id)) }

// extensions is the list of a certificate's.
type extensions []pkix.Extension

func (e extensions) index(oid asn1.ObjectIdentifier) int {
	return slices.IndexFunc(e, func(x pkix.Extension) bool { return x.Id.Equal(oid) })
}
