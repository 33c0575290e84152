package vectors

import (
	"crypto"
	"crypto/x509/pkix"
	"fmt"

	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// issuerKey is the key that signs the certificates of a level.
func (l *lab) issuerKey(level nsmtest.Level) crypto.Signer {
	if level == nsmtest.LevelRoot {
		return l.keys[level]
	}
	return l.keys[level-1]
}

// reissue is the enclave's path with one certificate changed and signed anew
// by the authority above it. Those below stay as they are, since they depend
// on its name and key only.
func (l *lab) reissue(level nsmtest.Level, edit func(*certificate)) path {
	c := l.template(level)
	edit(c)
	p := l.path.clone()
	p.certificates[level] = l.issue(c, l.issuerKey(level))
	return p
}

// replace is the enclave's path with other bytes for one certificate.
func (l *lab) replace(level nsmtest.Level, edit func(der []byte) []byte) path {
	p := l.path.clone()
	p.certificates[level] = edit(p.certificates[level])
	return p
}

// rekey is the enclave's path with another key at one level, which signs the
// certificate below or the document.
func (l *lab) rekey(level nsmtest.Level, key crypto.Signer) path {
	c := l.template(level)
	id := l.setKey(c, key)
	p := l.path.clone()
	p.certificates[level] = l.issue(c, l.issuerKey(level))
	if level == nsmtest.LevelLeaf {
		p.key = key
		return p
	}
	below := l.template(level + 1)
	if below.extensions.index(oidAuthorityKeyID) >= 0 {
		below.setExtension(oidAuthorityKeyID, false, authorityKeyIDExtension(id))
	}
	p.certificates[level+1] = l.issue(below, key)
	return p
}

// chainOf is a path from the lab's root over so many authorities with keys of
// their own.
func (l *lab) chainOf(intermediates int) path {
	p := path{certificates: [][]byte{l.path.certificates[0]}}
	root := l.template(nsmtest.LevelRoot)
	key, name, keyID := l.keys[nsmtest.LevelRoot], root.subject, root.keyID()
	for i := range intermediates {
		c := l.template(nsmtest.LevelRegional)
		c.issuer = name
		c.subject = l.commonName(fmt.Sprintf("%d.of-%d.aws.nitro-enclaves", i+1, intermediates))
		c.setExtension(oidBasicConstraints, true, caConstraints(intermediates-1-i))
		c.setExtension(oidAuthorityKeyID, false, authorityKeyIDExtension(keyID))
		own := l.newKey()
		keyID = l.setKey(c, own)
		p.certificates = append(p.certificates, l.issue(c, key))
		key, name = own, c.subject
	}
	leaf := l.template(nsmtest.LevelLeaf)
	leaf.issuer = name
	p.certificates = append(p.certificates, l.issue(leaf, key))
	p.key = l.path.key
	return p
}

func (l *lab) commonName(name string) []byte {
	return l.asn1(pkix.Name{Country: []string{"US"}, Organization: []string{"Amazon"}, CommonName: name}.ToRDNSequence())
}

// nameOf is a name of one part, in the given string type, with more elements in
// it if there are any.
func nameOf(stringTag byte, name string, more ...[]byte) []byte {
	oid := der(derOID, []byte{0x55, 4, 3})
	return der(derSequence, der(derSet, der(derSequence, oid, der(stringTag, []byte(name)), join(more...))))
}
