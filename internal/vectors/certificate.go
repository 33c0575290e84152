package vectors

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"time"

	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// certificate is one before it is signed, in parts that can each be wrong.
// crypto/x509 would refuse to make most of what is made of it.
type certificate struct {
	version             []byte // the element [0], empty in version 1
	serial              *big.Int
	hash                crypto.Hash // of an ECDSA signature
	issuer, subject     []byte
	notBefore, notAfter time.Time
	validity            []byte // both times, if they aren't these two as X.509 writes them
	validityTail        []byte
	spki                []byte
	extensions          extensions // none at all if empty
	rawExtensions       []byte     // in the list, after these
	extensionsTail      []byte     // inside [3], after the list
	tbsTail, tail       []byte     // after the last element of TBSCertificate, of Certificate
	algorithm           []byte     // if it isn't the one that is signed with
	innerAlgorithm      []byte     // of TBSCertificate if it is another than outside
	sign                func(tbs []byte) []byte
}

var version3 = der(derVersion, der(derInteger, []byte{2}))

// template takes the enclave's certificate of a level apart.
func (l *lab) template(level nsmtest.Level) *certificate {
	c, err := x509.ParseCertificate(l.path.certificates[level])
	if err != nil {
		l.note(err)
		return &certificate{}
	}
	return &certificate{
		version: version3, serial: c.SerialNumber, hash: crypto.SHA384,
		issuer: c.RawIssuer, subject: c.RawSubject, notBefore: c.NotBefore, notAfter: c.NotAfter,
		spki: c.RawSubjectPublicKeyInfo, extensions: extensions(c.Extensions),
	}
}

// setExtension replaces an extension or adds it at the end.
func (c *certificate) setExtension(oid asn1.ObjectIdentifier, critical bool, value []byte) {
	x := pkix.Extension{Id: oid, Critical: critical, Value: value}
	if i := c.extensions.index(oid); i >= 0 {
		c.extensions[i] = x
	} else {
		c.extensions = append(c.extensions, x)
	}
}

func (c *certificate) dropExtension(oid asn1.ObjectIdentifier) {
	if i := c.extensions.index(oid); i >= 0 {
		c.extensions = append(c.extensions[:i:i], c.extensions[i+1:]...)
	}
}

// keyID is the subject key identifier, or nil.
func (c *certificate) keyID() []byte {
	if i := c.extensions.index(oidSubjectKeyID); i >= 0 {
		return derContent(c.extensions[i].Value)
	}
	return nil
}

// setKey puts another key into a certificate, and a key identifier that fits if
// it has one. It returns the identifier.
func (l *lab) setKey(c *certificate, key crypto.Signer) []byte {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	l.note(err)
	c.spki = spki
	sum := sha256.Sum256(spki)
	if c.extensions.index(oidSubjectKeyID) >= 0 {
		c.setExtension(oidSubjectKeyID, false, keyIDExtension(sum[:20]))
	}
	return sum[:20]
}

// issue signs a certificate with its issuer's key.
func (l *lab) issue(c *certificate, issuer crypto.Signer) []byte {
	algorithm := c.algorithm
	if algorithm == nil {
		algorithm = l.algorithm(issuer, c.hash)
	}
	inner := c.innerAlgorithm
	if inner == nil {
		inner = algorithm
	}
	validity := c.validity
	if validity == nil {
		validity = join(l.asn1(c.notBefore.UTC()), l.asn1(c.notAfter.UTC()))
	}
	tbs := der(derSequence,
		c.version, l.asn1(c.serial), inner, c.issuer,
		der(derSequence, validity, c.validityTail),
		c.subject, c.spki, c.extensionList(l), c.tbsTail)
	signature := c.sign
	if signature == nil {
		signature = func(tbs []byte) []byte { return l.signature(issuer, c.hash, tbs) }
	}
	return der(derSequence, tbs, algorithm, der(derBitString, []byte{0}, signature(tbs)), c.tail)
}

func (c *certificate) extensionList(l *lab) []byte {
	if len(c.extensions) == 0 {
		return nil
	}
	var list [][]byte
	for _, x := range c.extensions {
		list = append(list, l.asn1(x))
	}
	return der(derExtensions, der(derSequence, join(list...), c.rawExtensions), c.extensionsTail)
}

func (l *lab) asn1(v any) []byte {
	b, err := asn1.Marshal(v)
	l.note(err)
	return b
}

// signature signs as X.509 has it.
func (l *lab) signature(key crypto.Signer, hash crypto.Hash, tbs []byte) []byte {
	signed := tbs
	if _, ok := key.(ed25519.PrivateKey); ok {
		hash = 0
	} else {
		h := hash.New()
		h.Write(tbs)
		signed = h.Sum(nil)
	}
	b, err := key.Sign(rand.Reader, signed, hash)
	l.note(err)
	return b
}

// algorithm is the AlgorithmIdentifier of such a signature.
func (l *lab) algorithm(key crypto.Signer, hash crypto.Hash) []byte {
	id := pkix.AlgorithmIdentifier{}
	switch key.(type) {
	case *ecdsa.PrivateKey:
		id.Algorithm = map[crypto.Hash]asn1.ObjectIdentifier{
			crypto.SHA256: {1, 2, 840, 10045, 4, 3, 2},
			crypto.SHA384: {1, 2, 840, 10045, 4, 3, 3},
			crypto.SHA512: {1, 2, 840, 10045, 4, 3, 4},
		}[hash]
	case *rsa.PrivateKey:
		id.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 12} // with SHA-384
		id.Parameters = asn1.NullRawValue
	case ed25519.PrivateKey:
		id.Algorithm = asn1.ObjectIdentifier{1, 3, 101, 112}
	}
	return l.asn1(id)
}
