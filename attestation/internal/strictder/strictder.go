// Package strictder refuses certificates that hold more than their form has room for.
//
// crypto/x509 reads what it knows of a certificate and passes over elements that
// follow where none may: at the end of most sequences. Bytes there are signed, but
// they would let one certificate be two things to two readers. So every part that
// says who may do what is held to its exact shape here. The inside of extensions that
// verification does not use is left to crypto/x509.
package strictder

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// The extensions that verification uses (RFC 5280, section 4.2.1).
var (
	OIDBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	OIDKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}

	oidSubjectKeyID   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// DER tags (X.690, section 8.1.2).
const (
	derBoolean    = 0x01
	derInteger    = 0x02
	derBitString  = 0x03
	derOctets     = 0x04
	derOID        = 0x06
	derUTCTime    = 0x17
	derTime       = 0x18
	derSequence   = 0x30
	derSet        = 0x31
	derVersion    = 0xa0 // [0] of TBSCertificate
	derIssuerUID  = 0x81 // [1]
	derSubjectUID = 0x82 // [2]
	derExtensions = 0xa3 // [3]
	derKeyID      = 0x80 // [0] of AuthorityKeyIdentifier
	derCertIssuer = 0xa1 // [1]
	derCertSerial = 0x82 // [2]

	derOptional = 0x100 // set beside a tag: the element may be absent
)

// nextDER splits the first element off der. Two bytes hold every length
// that a certificate has: the caller bounds its size.
func nextDER(der []byte) (tag int, content, rest []byte, ok bool) {
	if len(der) < 2 {
		return 0, nil, nil, false
	}
	length, head := int(der[1]), 2
	if length >= 0x80 {
		n := length & 0x7f
		if n == 0 || n > 2 || len(der) < 2+n {
			return 0, nil, nil, false
		}
		length, head = 0, 2+n
		for _, b := range der[2:head] {
			length = length<<8 | int(b)
		}
		if length < 0x80 || length>>(8*(n-1)) == 0 {
			return 0, nil, nil, false // not the shortest form
		}
	}
	if length > len(der)-head {
		return 0, nil, nil, false
	}
	return int(der[0]), der[head : head+length], der[head+length:], true
}

// derIs reports whether der is elements of these tags, in this order, and
// nothing else.
func derIs(der []byte, tags ...int) bool {
	for _, want := range tags {
		if len(der) == 0 || int(der[0]) != want&0xff {
			if want&derOptional == 0 {
				return false
			}
			continue
		}
		_, _, rest, ok := nextDER(der)
		if !ok {
			return false
		}
		der = rest
	}
	return len(der) == 0
}

// derIsSequenceOf reports whether der is one sequence, of these tags.
func derIsSequenceOf(der []byte, tags ...int) bool {
	tag, content, rest, ok := nextDER(der)
	return ok && tag == derSequence && len(rest) == 0 && derIs(content, tags...)
}

// derEach calls check with each element of der, and reports whether all are of
// the tag and pass.
func derEach(der []byte, want int, check func(content []byte) bool) bool {
	for len(der) > 0 {
		tag, content, rest, ok := nextDER(der)
		if !ok || tag != want || !check(content) {
			return false
		}
		der = rest
	}
	return true
}

// Loose names the first part of a certificate that is not of exactly the
// shape that RFC 5280, section 4.1 gives it, or "".
func Loose(c *x509.Certificate) string {
	if !derIsSequenceOf(c.Raw, derSequence, derSequence, derBitString) {
		return "Certificate"
	}
	if !derIsSequenceOf(c.RawTBSCertificate, derVersion|derOptional, derInteger, derSequence, derSequence, derSequence, derSequence, derSequence,
		derIssuerUID|derOptional, derSubjectUID|derOptional, derExtensions|derOptional) {
		return "TBSCertificate"
	}
	if !derIsSequenceOf(c.RawSubjectPublicKeyInfo, derSequence, derBitString) {
		return "SubjectPublicKeyInfo"
	}

	// The elements of Certificate and TBSCertificate are there: it was checked.
	_, certificate, _, _ := nextDER(c.Raw)
	_, tbs, _, _ := nextDER(c.RawTBSCertificate)
	_, spki, _, _ := nextDER(c.RawSubjectPublicKeyInfo)
	outer := derElement(certificate, 1)
	if derElement(tbs, 0)[0] == derVersion {
		tbs = tbs[len(derElement(tbs, 0)):]
	}
	const signatureAt, issuerAt, validityAt, subjectAt = 1, 2, 3, 4
	// RFC 5758, section 3.2: ecdsa-with-SHA384 has no parameters; RFC 5480,
	// section 2.1.1: a key on a named curve has one, the curve. Other algorithms
	// are refused elsewhere, by name.
	if c.SignatureAlgorithm == x509.ECDSAWithSHA384 &&
		(!derIsSequenceOf(outer, derOID) || !derIsSequenceOf(derElement(tbs, signatureAt), derOID)) {
		return "signature algorithm"
	}
	if c.PublicKeyAlgorithm == x509.ECDSA && !derIsSequenceOf(derElement(spki, 0), derOID, derOID) {
		return "public key's algorithm"
	}
	// A bit string that is not of whole bytes would be shifted by Go's parser.
	for _, bits := range [][]byte{derElement(certificate, 2), derElement(spki, 1)} {
		if _, content, _, ok := nextDER(bits); !ok || len(content) == 0 || content[0] != 0 {
			return "signature or public key"
		}
	}
	if !derIsValidity(derElement(tbs, validityAt)) {
		return "validity"
	}
	for _, at := range []int{issuerAt, subjectAt} {
		if !derIsName(derElement(tbs, at)) {
			return "name"
		}
	}
	return looseExtensions(tbs, c)
}

// derElement returns the i-th element of der, head included, or nil.
func derElement(der []byte, i int) []byte {
	for {
		_, _, rest, ok := nextDER(der)
		if !ok {
			return nil
		}
		if i == 0 {
			return der[:len(der)-len(rest)]
		}
		der, i = rest, i-1
	}
}

// derIsValidity reports whether der is two times as RFC 5280, section 4.1.2.5 has
// them: with seconds, in UTC, of the type that the year demands.
func derIsValidity(der []byte) bool {
	tag, times, rest, ok := nextDER(der)
	if !ok || tag != derSequence || len(rest) != 0 {
		return false
	}
	n := 0
	for ; len(times) > 0; n++ {
		var t []byte
		if tag, t, times, ok = nextDER(times); !ok || len(t) == 0 || t[len(t)-1] != 'Z' {
			return false
		}
		switch {
		case tag == derUTCTime && len(t) == len("YYMMDDHHMMSSZ"):
		case tag == derTime && len(t) == len("YYYYMMDDHHMMSSZ") && string(t[:4]) >= "2050":
		default:
			return false
		}
	}
	return n == 2
}

// derIsName reports whether der is a Name: a sequence of sets of attributes, of
// a type and a value each.
func derIsName(der []byte) bool {
	tag, sets, rest, ok := nextDER(der)
	return ok && tag == derSequence && len(rest) == 0 && derEach(sets, derSet, func(set []byte) bool {
		return len(set) > 0 && derEach(set, derSequence, func(attribute []byte) bool {
			value := derElement(attribute, 1)
			return value != nil && derIs(attribute, derOID, int(value[0]))
		})
	})
}

// PublicPoint returns a certificate's public key as it stands there: for a key on a
// curve that is an uncompressed point.
func PublicPoint(c *x509.Certificate) []byte {
	_, spki, _, _ := nextDER(c.RawSubjectPublicKeyInfo)
	_, bits, _, _ := nextDER(derElement(spki, 1))
	return bits[min(1, len(bits)):] // after the count of unused bits, which is 0
}

// looseExtensions checks the extensions: their list, each one's parts, and the
// values of those that verification uses.
func looseExtensions(tbs []byte, c *x509.Certificate) string {
	for i := 0; ; i++ {
		element := derElement(tbs, i)
		if element == nil {
			break
		}
		if element[0] != derExtensions {
			continue
		}
		_, wrapped, _, _ := nextDER(element)
		tag, list, rest, ok := nextDER(wrapped)
		if !ok || tag != derSequence || len(rest) != 0 || !derEach(list, derSequence, func(extension []byte) bool {
			// DER leaves out a default, so that a BOOLEAN here is TRUE.
			critical := derElement(extension, 1)
			return derIs(extension, derOID, derBoolean|derOptional, derOctets) &&
				(critical[0] != derBoolean || critical[len(critical)-1] == 0xff)
		}) {
			return "list of extensions"
		}
	}
	for _, extension := range c.Extensions {
		if part := looseExtension(extension); part != "" {
			return part
		}
	}
	return ""
}

// looseExtension checks the value of an extension that verification uses.
func looseExtension(extension pkix.Extension) string {
	value := extension.Value
	switch {
	case extension.Id.Equal(OIDBasicConstraints):
		_, fields, _, _ := nextDER(value)
		tag, isCA, _, ok := nextDER(fields)
		if !derIsSequenceOf(value, derBoolean|derOptional, derInteger|derOptional) ||
			ok && tag == derBoolean && (len(isCA) != 1 || isCA[0] != 0xff) { // FALSE is the default
			return "basic constraints"
		}
	case extension.Id.Equal(OIDKeyUsage):
		// At least one bit, after the count of unused ones; and in a list of
		// named bits the last is set (X.690, section 11.2.2).
		_, bits, _, ok := nextDER(value)
		if !ok || !derIs(value, derBitString) || len(bits) < 2 || bits[0] > 7 || bits[len(bits)-1]>>bits[0]&1 == 0 {
			return "key usage"
		}
	case extension.Id.Equal(oidSubjectKeyID):
		if !derIs(value, derOctets) {
			return "subject key identifier"
		}
	case extension.Id.Equal(oidAuthorityKeyID):
		if !derIsSequenceOf(value, derKeyID|derOptional, derCertIssuer|derOptional, derCertSerial|derOptional) {
			return "authority key identifier"
		}
	}
	return ""
}
