package vectors

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// malformed has the authorities sign what is not a certificate to the letter.
func (l *lab) malformed() File {
	f := l.newFile("der", "Certificates that are rightly signed but aren't DER, aren't X.509 version 3, or have elements where none may be. Many a parser passes over these.")
	const malformed = attestation.ReasonCertificateMalformed
	for _, level := range []nsmtest.Level{instance, leaf} {
		name := level.String()
		constraints := leafConstraints()
		if level == instance {
			constraints = caConstraints(0)
		}
		for _, c := range []struct {
			name, comment string
			edit          func(*certificate)
		}{
			{"fourth-element", "has a fourth element after the signature, which nothing signs", func(c *certificate) { c.tail = anElement }},
			{"tbs-trailing-element", "has an element after the extensions", func(c *certificate) { c.tbsTail = anElement }},
			{"spki-trailing-element", "has an element after the public key", func(c *certificate) { c.spki = derTail(c.spki, anElement) }},
			{"basic-constraints-trailing-element", "has an element in its basic constraints that doesn't belong there", func(c *certificate) {
				c.setExtension(oidBasicConstraints, true, derTail(constraints, anElement))
			}},
			{"basic-constraints-trailing-byte", "has bytes after its basic constraints", func(c *certificate) {
				c.setExtension(oidBasicConstraints, true, join(constraints, anElement))
			}},
			{"key-usage-empty", "has a key usage without a single bit", func(c *certificate) { c.setExtension(oidKeyUsage, true, usageNone) }},
			{"key-usage-trailing-bytes", "has bytes after its key usage", func(c *certificate) {
				c.setExtension(oidKeyUsage, true, join(c.extensions[c.extensions.index(oidKeyUsage)].Value, anElement))
			}},
			{"extension-twice", "has its basic constraints twice", func(c *certificate) {
				c.extensions = append(c.extensions, pkix.Extension{Id: oidBasicConstraints, Critical: true, Value: constraints})
			}},
			{"version-1", "is of X.509 version 1, without extensions", func(c *certificate) { c.version, c.extensions = nil, nil }},
			{"version-1-with-extensions", "is of X.509 version 1 but has extensions", func(c *certificate) { c.version = nil }},
			{"version-2", "is of X.509 version 2", func(c *certificate) { c.version = der(derVersion, der(derInteger, []byte{1})) }},
			{"version-4", "is of X.509 version 4", func(c *certificate) { c.version = der(derVersion, der(derInteger, []byte{3})) }},
			{"algorithms-differ", "names another signature algorithm inside than outside", func(c *certificate) { c.innerAlgorithm = l.algorithm(l.keys[root], crypto.SHA256) }},
			{"algorithm-with-null", "names a signature algorithm with the parameter NULL, inside and outside; ECDSA has none", func(c *certificate) {
				c.algorithm = derTail(l.algorithm(l.keys[root], c.hash), anElement)
			}},
			{"key-algorithm-trailing-element", "has an element after the curve of its public key", func(c *certificate) {
				algorithm := derElements(c.spki)[0]
				c.spki = der(derSequence, derTail(algorithm, anElement), derElements(c.spki)[1])
			}},
			{"validity-trailing-element", "has an element after the end of its validity", func(c *certificate) { c.validityTail = anElement }},
			{"validity-third-time", "has a third time after the end of its validity", func(c *certificate) {
				c.validityTail = der(derGeneralizedTime, []byte("20990101000000Z"))
			}},
			{"extensions-trailing-element", "has an element after the list of extensions", func(c *certificate) { c.extensionsTail = anElement }},
			{"extension-trailing-element", "has an extension with an element after its value", func(c *certificate) {
				c.rawExtensions = derTail(l.asn1(pkix.Extension{Id: oidUnknown, Value: anElement}), anElement)
			}},
			{"extension-critical-false", "has an extension that says it isn't critical, which DER leaves out", func(c *certificate) {
				c.rawExtensions = unknownExtension(0)
			}},
			{"extension-critical-1", "has an extension whose critical is neither true nor false: 0x01", func(c *certificate) {
				c.rawExtensions = unknownExtension(1)
			}},
			{"validity-without-seconds", "has a validity whose times lack their seconds", func(c *certificate) {
				c.validity = join(c.time(derUTCTime, "0601021504Z", c.notBefore), c.time(derUTCTime, "0601021504Z", c.notAfter))
			}},
			{"validity-with-offset", "has a validity whose end is written in another time zone than UTC, an hour ahead of it", func(c *certificate) {
				c.validity = join(c.time(derUTCTime, utcTime, c.notBefore), der(derUTCTime, []byte(c.notAfter.UTC().Add(time.Hour).Format("060102150405")+"+0100")))
			}},
			{"validity-generalized", "has a validity whose end is a GeneralizedTime, which is for years after 2049", func(c *certificate) {
				c.validity = join(c.time(derUTCTime, utcTime, c.notBefore), c.time(derGeneralizedTime, "20060102150405Z", c.notAfter))
			}},
			{"validity-with-fraction", "has a validity whose end, in 2051, has a fraction of a second", func(c *certificate) {
				c.validity = join(c.time(derUTCTime, utcTime, c.notBefore), der(derGeneralizedTime, []byte("20510101000000.5Z")))
			}},
			{"validity-one-time", "has a validity of one time", func(c *certificate) { c.validity = c.time(derUTCTime, utcTime, c.notBefore) }},
			{"key-unused-bit", "says that its public key's last bit, which is 0, is unused", func(c *certificate) { c.spki = l.unusedKeyBit(0) }},
			{"key-unused-bit-set", "says that its public key's last bit, which is 1, is unused", func(c *certificate) { c.spki = l.unusedKeyBit(1) }},
			{"key-usage-zeros", "has a key usage that ends in bits that aren't set", func(c *certificate) {
				usage := bytes.Clone(c.extensions[c.extensions.index(oidKeyUsage)].Value)
				usage[2] = 0 // unused bits
				c.setExtension(oidKeyUsage, true, usage)
			}},
			{"key-usage-nine-unused-bits", "has a key usage with nine bits of its last byte unused", func(c *certificate) {
				usage := bytes.Clone(c.extensions[c.extensions.index(oidKeyUsage)].Value)
				usage[2] = 9
				c.setExtension(oidKeyUsage, true, usage)
			}},
			{"serial-negative", "has a negative serial number", func(c *certificate) { c.serial = big.NewInt(-1) }},
		} {
			f.reject(malformed, name+"-"+c.name, "The "+name+" certificate "+c.comment+".", l.with(level, c.edit))
		}
		f.reject(malformed, name+"-trailing-byte", "A zero byte after the "+name+" certificate.", l.under(l.replace(level, func(der []byte) []byte { return join(der, []byte{0}) })))
		f.reject(malformed, name+"-truncated", "The "+name+" certificate lacks its last byte.", l.under(l.replace(level, func(der []byte) []byte { return der[:len(der)-1] })))
		unusedBit := l.reissue(level, func(c *certificate) {
			c.sign = func(tbs []byte) []byte { return l.oddSignature(l.issuerKey(level), tbs) }
		})
		unusedBit.certificates[level] = withUnusedBit(unusedBit.certificates[level])
		f.reject(malformed, name+"-signature-unused-bit", "The "+name+" certificate says that its signature's last bit is unused, and it is set.", l.under(unusedBit))
		f.reject(attestation.ReasonCertificateSignature, name+"-signature-trailing-element", "The "+name+" certificate's signature has an element after r and s.", l.with(level, func(c *certificate) {
			c.sign = func(tbs []byte) []byte { return derTail(l.signature(l.issuerKey(level), c.hash, tbs), anElement) }
		}))
		f.reject(attestation.ReasonCertificateSignature, name+"-signature-trailing-bytes", "The "+name+" certificate's signature has bytes after it.", l.with(level, func(c *certificate) {
			c.sign = func(tbs []byte) []byte { return join(l.signature(l.issuerKey(level), c.hash, tbs), anElement) }
		}))
		f.reject(malformed, name+"-length-not-shortest", "The "+name+" certificate's length is in a byte too many.", l.under(l.replace(level, func(der []byte) []byte {
			return join([]byte{derSequence, 0x83, 0}, der[2:])
		})))
		f.reject(malformed, name+"-indefinite-length", "The "+name+" certificate is BER of indefinite length.", l.under(l.replace(level, func(element []byte) []byte {
			return join([]byte{derSequence, 0x80}, derContent(element), []byte{0, 0})
		})))
	}
	f.reject(malformed, "instance-path-length-negative", "The instance certificate has the path length -1.", l.with(instance, func(c *certificate) {
		c.setExtension(oidBasicConstraints, true, caConstraints(0xff))
	}))
	f.reject(malformed, "leaf-key-usage-unused-bits", "The leaf certificate's key usage has bits set that it says are unused.", l.with(leaf, func(c *certificate) {
		c.setExtension(oidKeyUsage, true, []byte{derBitString, 2, 7, 0xff})
	}))

	f.reject(malformed, "leaf-basic-constraints-explicit-false", "The leaf certificate says that it is no CA, which DER leaves out.", l.with(leaf, func(c *certificate) {
		c.setExtension(oidBasicConstraints, true, der(derSequence, der(derBoolean, []byte{0})))
	}))
	f.reject(malformed, "instance-basic-constraints-ca-1", "The instance certificate is a CA by the value 0x01, where DER has 0xff.", l.with(instance, func(c *certificate) {
		c.setExtension(oidBasicConstraints, true, der(derSequence, der(derBoolean, []byte{1}), der(derInteger, []byte{0})))
	}))
	f.reject(malformed, "instance-key-identifier-trailing-element", "The instance certificate has an element after its subject key identifier.", l.with(instance, func(c *certificate) {
		c.setExtension(oidSubjectKeyID, false, join(keyIDExtension(c.keyID()), anElement))
	}))
	f.reject(malformed, "instance-authority-key-identifier-trailing-element", "The instance certificate has an element after the identifier of its issuer's key.", l.with(instance, func(c *certificate) {
		c.setExtension(oidAuthorityKeyID, false, derTail(c.extensions[c.extensions.index(oidAuthorityKeyID)].Value, anElement))
	}))
	f.reject(malformed, "leaf-name-without-attribute", "The leaf certificate's subject has a set of no attributes.", l.with(leaf, func(c *certificate) {
		c.subject = derTail(c.subject, der(derSet))
	}))
	f.reject(malformed, "leaf-name-trailing-element", "The leaf certificate's subject has an attribute with an element after its value.", l.with(leaf, func(c *certificate) {
		c.subject = nameOf(derUTF8String, "an enclave", anElement)
	}))

	// A key is 04, x and y, after a byte that counts unused bits.
	point := func(edit func(point []byte) []byte) func(*certificate) {
		return func(c *certificate) {
			parts := derElements(c.spki)
			p := bytes.Clone(derContent(parts[1])[1:])
			c.spki = der(derSequence, parts[0], der(derBitString, []byte{0}, edit(p)))
		}
	}
	f.reject(malformed, "leaf-point-off-the-curve", "The leaf certificate's key is a point that isn't on P-384.", l.with(leaf, point(func(p []byte) []byte { p[96] ^= 1; return p })))
	f.reject(malformed, "leaf-point-at-infinity", "The leaf certificate's key is the point at infinity.", l.with(leaf, point(func([]byte) []byte { return []byte{0} })))
	f.reject(malformed, "leaf-point-compressed", "The leaf certificate's key is a compressed point, which X.509 libraries may take and AWS doesn't write.", l.with(leaf, point(func(p []byte) []byte {
		return append([]byte{2 | p[96]&1}, p[1:49]...)
	})))
	f.accept("leaf-of-1024-bytes", "The leaf certificate has 1024 bytes, the most there may be.", l.under(l.padded(1024)))
	f.reject(attestation.ReasonFieldSize, "leaf-of-1025-bytes", "The leaf certificate is sound but for its 1025 bytes.", l.under(l.padded(1025)))
	return *f
}

// utcTime is how X.509 writes a time before 2050.
const utcTime = "060102150405Z"

func (*certificate) time(tag byte, layout string, t time.Time) []byte {
	return der(tag, []byte(t.UTC().Format(layout)))
}

// unknownExtension spells out whether it is critical.
func unknownExtension(critical byte) []byte {
	oid, err := asn1.Marshal(oidUnknown)
	if err != nil {
		return nil
	}
	return der(derSequence, oid, der(derBoolean, []byte{critical}), der(derOctetString, anElement))
}

// oddSignature has its last bit set.
func (l *lab) oddSignature(key crypto.Signer, tbs []byte) []byte {
	for range 1000 {
		if s := l.signature(key, crypto.SHA384, tbs); len(s) == 0 || s[len(s)-1]&1 == 1 {
			return s
		}
	}
	return nil
}

// unusedKeyBit is a public key whose last bit has this value and is said to be
// unused. Nothing is signed with it: no one gets so far.
func (l *lab) unusedKeyBit(bit byte) []byte {
	for range 1000 {
		spki, err := x509.MarshalPKIXPublicKey(l.newKey().Public())
		l.note(err)
		if err == nil && spki[len(spki)-1]&1 == bit {
			parts := derElements(spki)
			return der(derSequence, parts[0], der(derBitString, []byte{1}, derContent(parts[1])[1:]))
		}
	}
	l.note(errKeyBit)
	return nil
}

// withUnusedBit makes the last bit of a certificate's signature an unused one.
func withUnusedBit(certificate []byte) []byte {
	parts := derElements(certificate)
	return der(derSequence, parts[0], parts[1], der(derBitString, []byte{1}, derContent(parts[2])[1:]))
}

var (
	errKeyBit  = errors.New("no key came out with the last bit that was asked for")
	errPadding = errors.New("no certificate came out at the size that was asked for")
)

// padded is the enclave's path with a leaf certificate of so many bytes. A
// signature's size varies with its numbers, so it takes a few attempts.
func (l *lab) padded(size int) path {
	pad := 300
	for range 1000 {
		p := l.reissue(leaf, func(c *certificate) {
			c.setExtension(oidUnknown, false, der(derOctetString, make([]byte, pad)))
		})
		got := len(p.certificates[leaf])
		if got == size {
			return p
		}
		pad += size - got
	}
	l.note(errPadding)
	return l.path
}
