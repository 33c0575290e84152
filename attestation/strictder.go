package attestation

import "crypto/x509"

// crypto/x509 reads what it knows of a certificate and passes over elements
// that follow where none may: in the Certificate and TBSCertificate sequences,
// the public key and basic constraints. Bytes there are signed, but they would
// let one certificate be two things to two readers, so they are refused.

// DER tags (X.690 section 8.1.2).
const (
	derBoolean    = 0x01
	derInteger    = 0x02
	derBitString  = 0x03
	derSequence   = 0x30
	derVersion    = 0xa0 // [0] of TBSCertificate
	derIssuerUID  = 0x81 // [1]
	derSubjectUID = 0x82 // [2]
	derExtensions = 0xa3 // [3]

	derOptional = 0x100 // set beside a tag: the element may be absent
)

// nextDER splits the first element off der. Certificates have at most
// MaxCertificateSize bytes, so that two bytes hold every length there is.
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

// checkStrictDER refuses what crypto/x509 passes over.
func checkStrictDER(c *x509.Certificate) error {
	malformed := func(what string) error {
		return fail(ReasonCertificateMalformed, "", "its %s has elements or bytes that don't belong there", what)
	}
	// RFC 5280 section 4.1.
	if !derIsSequenceOf(c.Raw, derSequence, derSequence, derBitString) {
		return malformed("Certificate")
	}
	if !derIsSequenceOf(c.RawTBSCertificate, derVersion|derOptional, derInteger, derSequence, derSequence, derSequence, derSequence, derSequence,
		derIssuerUID|derOptional, derSubjectUID|derOptional, derExtensions|derOptional) {
		return malformed("TBSCertificate")
	}
	if !derIsSequenceOf(c.RawSubjectPublicKeyInfo, derSequence, derBitString) {
		return malformed("SubjectPublicKeyInfo")
	}
	for _, ext := range c.Extensions {
		switch {
		case ext.Id.Equal(oidBasicConstraints):
			if !derIsSequenceOf(ext.Value, derBoolean|derOptional, derInteger|derOptional) {
				return malformed("basic constraints")
			}
		case ext.Id.Equal(oidKeyUsage):
			// At least one bit, after the count of unused ones.
			if _, usage, _, ok := nextDER(ext.Value); !ok || !derIs(ext.Value, derBitString) || len(usage) < 2 {
				return malformed("key usage")
			}
		}
	}
	return nil
}
