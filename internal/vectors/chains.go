package vectors

import (
	"crypto"
	"fmt"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// chains joins certificates that are sound by themselves.
func (l *lab) chains() File {
	f := l.newFile("chains", "How the certificates hang together: their number, order, names, key identifiers and signatures. Each is sound by itself.")
	l.lengths(f)
	l.bundleOrder(f)
	if foreign, err := newLab(); err != nil {
		l.note(err)
	} else {
		l.foreign(f, foreign)
	}
	l.links(f)
	return *f
}

func (l *lab) lengths(f *File) {
	for _, n := range []int{1, 2, 3, 4, 5} {
		f.accept(fmt.Sprintf("intermediates-%d", n), fmt.Sprintf("%d authorities between root and leaf.", n), l.under(l.chainOf(n)))
	}
	f.reject(attestation.ReasonCABundle, "intermediates-6", "6 authorities between root and leaf: one more than this library allows.", l.under(l.chainOf(6)))
}

// bundled puts a bundle into the base document.
func (l *lab) bundled(certificates ...[]byte) []byte {
	return l.document(l.path.key, l.base.set("cabundle", bundle(certificates)).encode())
}

func (l *lab) bundleOrder(f *File) {
	c := l.path.certificates
	const issuer, untrusted, twice = attestation.ReasonCertificateIssuer, attestation.ReasonUntrustedRoot, attestation.ReasonCABundle
	f.reject(untrusted, "bundle-reversed", "The bundle begins with the instance certificate and ends with the root.", l.bundled(c[3], c[2], c[1], c[0]))
	f.reject(issuer, "bundle-swapped", "Regional and zonal certificate change places.", l.bundled(c[0], c[2], c[1], c[3]))
	f.reject(untrusted, "bundle-root-missing", "The root is missing; the bundle must begin with it.", l.bundled(c[1], c[2], c[3]))
	f.reject(untrusted, "bundle-root-last", "The root at the end.", l.bundled(c[1], c[2], c[3], c[0]))
	f.reject(issuer, "bundle-regional-missing", "The regional certificate is missing.", l.bundled(c[0], c[2], c[3]))
	f.reject(issuer, "bundle-instance-missing", "The instance certificate is missing.", l.bundled(c[0], c[1], c[2]))
	f.reject(issuer, "bundle-root-alone", "All authorities are missing.", l.bundled(c[0]))
	f.reject(twice, "bundle-root-twice", "The root twice.", l.bundled(c[0], c[0], c[1], c[2], c[3]))
	f.reject(twice, "bundle-regional-twice", "The regional certificate twice.", l.bundled(c[0], c[1], c[1], c[2], c[3]))
	f.reject(twice, "bundle-leaf-included", "The leaf certificate is in the bundle as well.", l.bundled(c[0], c[1], c[2], c[3], c[4]))
}

// foreign mixes in what belongs to another root or enclave.
func (l *lab) foreign(f *File, other *lab) {
	c, o, wide := l.path.certificates, other.path.certificates, l.unbounded().certificates
	const issuer, untrusted, forged = attestation.ReasonCertificateIssuer, attestation.ReasonUntrustedRoot, attestation.ReasonCertificateSignature
	f.reject(untrusted, "attackers-root", "All is sound, under a root of the attacker's with the trusted root's name.", other.raw,
		func(v *Vector) { v.Policy.UnsafeAnyMeasurement, v.Policy.Measurements = true, nil })
	f.accept("second-root", "The same document, its root trusted as the second of two.", other.raw,
		func(v *Vector) { v.Policy.Roots = [][]byte{c[0], o[0]} })
	f.reject(forged, "attackers-chain", "An attacker's whole chain under the trusted root, names and key identifiers fitting.", other.document(other.path.key, l.impostors(other).fill(other.base).encode()))
	f.reject(issuer, "attackers-chain-own-key-identifiers", "The same with the attacker's own key identifiers.", other.document(other.path.key, other.base.set("cabundle", bundle([][]byte{c[0], o[1], o[2], o[3]})).encode()))
	f.reject(untrusted, "attackers-root-first", "The attacker's root above the good chain.", l.bundled(o[0], c[1], c[2], c[3]))
	f.reject(issuer, "attackers-root-second", "The attacker's root between the trusted one and the good chain.", l.bundled(c[0], o[0], c[1], c[2], c[3]))
	f.reject(issuer, "unused-certificate", "A foreign regional certificate between good ones, which have no path lengths.", l.bundled(c[0], wide[1], o[1], wide[2], wide[3]))
	f.reject(issuer, "foreign-regional", "A foreign regional certificate in place of the good one.", l.bundled(c[0], o[1], c[2], c[3]))
	f.reject(issuer, "bundle-with-an-end", "A foreign root after a good bundle, which has no path lengths.", l.bundled(c[0], wide[1], wide[2], wide[3], o[0]))

	same := l.reissue(root, func(c *certificate) { c.notAfter = c.notAfter.AddDate(1, 0, 0) })
	f.reject(untrusted, "root-renewed", "The root's own key signed another root certificate; trusted is the certificate, byte for byte, not its name or key.", l.under(same))

	// An enclave's key is the attacker's if the enclave is.
	sub := l.template(leaf)
	subKey := l.newKey()
	l.setKey(sub, subKey)
	sub.issuer, sub.subject = sub.subject, l.commonName("an enclave that isn't")
	p := path{append(l.path.clone().certificates, l.issue(sub, l.path.key)), subKey}
	f.reject(attestation.ReasonCertificateUsage, "leaf-issues-a-leaf", "A genuine leaf certificate's key issues another leaf.", l.under(p))
	p.certificates = append(wide, p.certificates[5])
	f.reject(attestation.ReasonCertificateUsage, "leaf-issues-a-leaf-without-path-lengths", "The same where no path length forbids it: the first leaf is no CA.", l.under(p))
}

// unbounded is the enclave's path without path lengths.
func (l *lab) unbounded() path {
	p := l.path.clone()
	for _, level := range authorities {
		p.certificates[level] = l.reissue(level, func(c *certificate) {
			c.setExtension(oidBasicConstraints, true, caConstraints(noPathLength))
		}).certificates[level]
	}
	return p
}

// impostors is other's path, its first authority made to look like one of this
// lab's root.
func (l *lab) impostors(other *lab) path {
	p := other.reissue(regional, func(c *certificate) {
		c.setExtension(oidAuthorityKeyID, false, authorityKeyIDExtension(l.template(root).keyID()))
	})
	p.certificates[root] = l.path.certificates[root]
	return p
}

// links spoils names, key identifiers and signatures between two certificates.
func (l *lab) links(f *File) {
	const issuer, forged = attestation.ReasonCertificateIssuer, attestation.ReasonCertificateSignature
	for _, level := range belowRoot {
		name := level.String()
		f.reject(issuer, name+"-wrong-issuer", "The "+name+" certificate names another issuer.", l.with(level, func(c *certificate) { c.issuer = l.commonName("another") }))
		f.reject(issuer, name+"-wrong-authority-key", "The "+name+" certificate's authority key identifier is of another key.", l.with(level, func(c *certificate) {
			c.setExtension(oidAuthorityKeyID, false, authorityKeyIDExtension(make([]byte, 20)))
		}))
		f.reject(forged, name+"-same-name-another-key", "The "+name+" certificate is signed with a key that isn't of the certificate above it, though the name is.", l.under(l.forge(level, l.newKey())))
	}
	f.reject(forged, "leaf-of-the-wrong-authority", "The leaf certificate names the instance's authority and is signed by the zonal one.", l.under(l.forge(leaf, l.keys[zonal])))
	skipping := l.template(leaf)
	skipping.issuer = l.template(zonal).subject
	p := l.path.clone()
	p.certificates[leaf] = l.issue(skipping, l.keys[zonal])
	f.reject(issuer, "leaf-skips-the-instance", "The leaf certificate is issued by the zonal authority; the instance certificate stands in the bundle unused.", l.under(p))

	f.accept("instance-no-authority-key", "The instance certificate has no authority key identifier.", l.with(instance, func(c *certificate) { c.dropExtension(oidAuthorityKeyID) }))
	f.accept("leaf-authority-key", "The leaf certificate has the right authority key identifier, which AWS's leave out.", l.with(leaf, func(c *certificate) {
		c.setExtension(oidAuthorityKeyID, false, authorityKeyIDExtension(l.template(instance).keyID()))
	}))

	const name = "An instance's authority"
	utf8 := nameOf(derUTF8String, name)
	f.reject(issuer, "issuer-in-capitals", "The leaf certificate writes its issuer's name in capitals. RFC 5280 lets them match; this library compares bytes.", l.under(l.named(utf8, nameOf(derUTF8String, strings.ToUpper(name)))))
	f.reject(issuer, "issuer-in-another-string-type", "The leaf certificate writes its issuer's name as PrintableString, and the issuer as UTF8String. RFC 5280 lets them match; this library compares bytes.", l.under(l.named(utf8, nameOf(derPrintableString, name))))
}

// forge is the enclave's path with one certificate signed by a key that is not
// its issuer's.
func (l *lab) forge(level nsmtest.Level, key crypto.Signer) path {
	p := l.path.clone()
	p.certificates[level] = l.issue(l.template(level), key)
	return p
}

// named is the enclave's path with another name of the instance's authority,
// once as it writes it and once as the leaf does.
func (l *lab) named(subject, issuer []byte) path {
	p := l.reissue(instance, func(c *certificate) { c.subject = subject })
	p.certificates[leaf] = l.reissue(leaf, func(c *certificate) { c.issuer = issuer }).certificates[leaf]
	return p
}
