package vectors

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

const (
	root     = nsmtest.LevelRoot
	regional = nsmtest.LevelRegional
	zonal    = nsmtest.LevelZonal
	instance = nsmtest.LevelInstance
	leaf     = nsmtest.LevelLeaf
)

var (
	authorities = []nsmtest.Level{regional, zonal, instance}
	belowRoot   = []nsmtest.Level{regional, zonal, instance, leaf}
)

// certificates has the authorities issue certificates that AWS's never would.
func (l *lab) certificates() File {
	f := l.newFile("certificates", "Certificates by themselves. Each vector changes one certificate, which the authority above it signs rightly unless the comment says otherwise; the document is signed with the leaf's key.")
	l.validity(f)
	l.keysAndAlgorithms(f)
	l.extensionRules(f)
	return *f
}

// with is a document under the path in which one certificate is changed.
func (l *lab) with(level nsmtest.Level, edit func(*certificate)) []byte {
	return l.under(l.reissue(level, edit))
}

func (l *lab) validity(f *File) {
	for _, level := range belowRoot {
		name := level.String()
		f.accept(name+"-in-its-last-second", "The "+name+" certificate ends now; the end belongs to the validity (RFC 5280 section 4.1.2.5).",
			l.with(level, func(c *certificate) { c.notAfter = noon }))
		f.reject(attestation.ReasonCertificateExpired, name+"-expired", "The "+name+" certificate ended one second ago.",
			l.with(level, func(c *certificate) { c.notAfter = noon.Add(-time.Second) }))
		f.accept(name+"-valid-within-skew", "The "+name+" certificate begins in 60 s, the skew that the policy allows by default.",
			l.with(level, func(c *certificate) { c.notBefore = noon.Add(attestation.DefaultMaxSkew) }))
		f.reject(attestation.ReasonCertificateNotYetValid, name+"-not-yet-valid", "The "+name+" certificate begins in 61 s.",
			l.with(level, func(c *certificate) { c.notBefore = noon.Add(attestation.DefaultMaxSkew + time.Second) }))
	}
	for _, c := range []struct {
		reason        attestation.Reason
		name, comment string
		edit          func(*certificate)
	}{
		{attestation.ReasonCertificateExpired, "root-expired", "The trusted root ended one second ago.", func(c *certificate) { c.notAfter = noon.Add(-time.Second) }},
		{attestation.ReasonCertificateNotYetValid, "root-not-yet-valid", "The trusted root begins in 61 s.", func(c *certificate) { c.notBefore = noon.Add(61 * time.Second) }},
		{attestation.ReasonCertificateUsage, "root-path-length-2", "The trusted root allows two authorities below it; there are three.", func(c *certificate) {
			c.setExtension(oidBasicConstraints, true, caConstraints(2))
		}},
	} {
		p := l.reissue(root, c.edit)
		f.reject(c.reason, c.name, c.comment, l.under(p), trust(p))
	}
	p := l.reissue(root, func(c *certificate) { c.setExtension(oidBasicConstraints, true, caConstraints(3)) })
	f.accept("root-path-length-3", "The trusted root allows exactly the authorities that there are.", l.under(p), trust(p))
}

// trust makes the root of a path the trusted one.
func trust(p path) change {
	return func(v *Vector) { v.Policy.Roots = [][]byte{p.certificates[root]} }
}

func (l *lab) keysAndAlgorithms(f *File) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	l.note(err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	l.note(err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	l.note(err)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	l.note(err)
	const algorithm = attestation.ReasonCertificateAlgorithm
	for _, level := range belowRoot {
		name := level.String()
		for _, k := range []struct {
			name, comment string
			key           crypto.Signer
		}{{"p256", "on P-256", p256}, {"p521", "on P-521", p521}, {"rsa", "of RSA with 2048 bits", rsaKey}, {"ed25519", "of Ed25519", edKey}} {
			comment := "The " + name + " certificate has a key " + k.comment + ", which rightly signs what is below it."
			if level == leaf && k.key != p256 {
				comment = "The leaf certificate has a key " + k.comment + ", which can't sign ES384 in 96 bytes; the signature is zeros."
			}
			f.reject(algorithm, name+"-"+k.name, comment, l.under(l.rekey(level, k.key)))
		}
		f.reject(algorithm, name+"-signed-with-sha256", "The "+name+" certificate is signed with ECDSA and SHA-256.", l.with(level, func(c *certificate) { c.hash = crypto.SHA256 }))
		f.reject(algorithm, name+"-signed-with-sha512", "The "+name+" certificate is signed with ECDSA and SHA-512.", l.with(level, func(c *certificate) { c.hash = crypto.SHA512 }))
		f.reject(attestation.ReasonCertificateSignature, name+"-signature-bit", "A bit of the "+name+" certificate's signature is flipped.", l.under(l.replace(level, func(der []byte) []byte {
			der = bytes.Clone(der)
			der[len(der)-1] ^= 1
			return der
		})))
	}
	f.reject(attestation.ReasonCertificateSignature, "leaf-signature-zero", "The leaf certificate's signature is r = s = 0.", l.with(leaf, func(c *certificate) {
		c.sign = func([]byte) []byte { return l.asn1(struct{ R, S *big.Int }{new(big.Int), new(big.Int)}) }
	}))
	f.reject(attestation.ReasonCertificateSignature, "leaf-signature-not-der", "The leaf certificate's signature is r and s of 48 bytes each, as COSE has them.", l.with(leaf, func(c *certificate) {
		c.sign = func(tbs []byte) []byte { return l.es384Signature(l.keys[instance], tbs) }
	}))
}

func (l *lab) extensionRules(f *File) {
	const usage, extension = attestation.ReasonCertificateUsage, attestation.ReasonCertificateExtension
	for _, level := range belowRoot {
		name := level.String()
		f.accept(name+"-unknown-extension", "The "+name+" certificate has an unknown extension that isn't critical.", l.with(level, func(c *certificate) { c.setExtension(oidUnknown, false, anElement) }))
		f.reject(extension, name+"-critical-unknown-extension", "The "+name+" certificate has an unknown critical extension.", l.with(level, func(c *certificate) { c.setExtension(oidUnknown, true, anElement) }))
		f.reject(usage, name+"-no-basic-constraints", "The "+name+" certificate has no basic constraints.", l.with(level, func(c *certificate) { c.dropExtension(oidBasicConstraints) }))
		f.reject(usage, name+"-no-key-usage", "The "+name+" certificate has no key usage.", l.with(level, func(c *certificate) { c.dropExtension(oidKeyUsage) }))
	}
	for _, level := range authorities {
		name := level.String()
		below := int(instance - level) // authorities that must be allowed
		f.reject(usage, name+"-basic-constraints-not-critical", "The "+name+" certificate's basic constraints aren't critical.", l.with(level, func(c *certificate) { c.setExtension(oidBasicConstraints, false, caConstraints(below)) }))
		f.reject(usage, name+"-not-a-ca", "The "+name+" certificate is of no CA.", l.with(level, func(c *certificate) { c.setExtension(oidBasicConstraints, true, leafConstraints()) }))
		f.reject(usage, name+"-no-key-cert-sign", "The "+name+" certificate's key may sign documents, not certificates.", l.with(level, func(c *certificate) { c.setExtension(oidKeyUsage, true, usageSignDocuments) }))
		f.accept(name+"-no-path-length", "The "+name+" certificate has no path length.", l.with(level, func(c *certificate) { c.setExtension(oidBasicConstraints, true, caConstraints(noPathLength)) }))
		if below > 0 {
			f.reject(usage, name+"-path-length-short", "The "+name+" certificate allows one authority below it fewer than there are.", l.with(level, func(c *certificate) { c.setExtension(oidBasicConstraints, true, caConstraints(below-1)) }))
		}
	}
	f.accept("instance-path-length-1", "The instance certificate allows an authority below it; there is none.", l.with(instance, func(c *certificate) { c.setExtension(oidBasicConstraints, true, caConstraints(1)) }))
	f.reject(usage, "regional-crl-sign-only", "The regional certificate's key may sign revocation lists only.", l.with(regional, func(c *certificate) { c.setExtension(oidKeyUsage, true, usageSignCRLs) }))
	f.reject(extension, "zonal-name-constraints", "The zonal certificate has critical name constraints.", l.with(zonal, func(c *certificate) {
		c.setExtension(oidNameConstraints, true, der(derSequence, der(0xa0, der(derSequence, der(0x82, []byte("example.com"))))))
	}))
	f.reject(extension, "zonal-policy-constraints", "The zonal certificate has critical policy constraints.", l.with(zonal, func(c *certificate) {
		c.setExtension(oidPolicyConstraint, true, der(derSequence, der(0x80, []byte{0})))
	}))

	f.reject(usage, "leaf-is-a-ca", "The leaf certificate is of a CA.", l.with(leaf, func(c *certificate) { c.setExtension(oidBasicConstraints, true, caConstraints(noPathLength)) }))
	f.reject(usage, "leaf-with-path-length", "The leaf certificate is of no CA but has a path length.", l.with(leaf, func(c *certificate) {
		c.setExtension(oidBasicConstraints, true, der(derSequence, der(derInteger, []byte{0})))
	}))
	f.accept("leaf-basic-constraints-not-critical", "The leaf certificate's basic constraints aren't critical, which only those of a CA must be.", l.with(leaf, func(c *certificate) { c.setExtension(oidBasicConstraints, false, leafConstraints()) }))
	f.reject(usage, "leaf-no-digital-signature", "The leaf certificate's key usage is nonRepudiation alone.", l.with(leaf, func(c *certificate) { c.setExtension(oidKeyUsage, false, usageNonRepudiation) }))
	f.reject(usage, "leaf-key-cert-sign-only", "The leaf certificate's key may sign certificates, not documents.", l.with(leaf, func(c *certificate) { c.setExtension(oidKeyUsage, true, usageSignCertificates) }))
	f.accept("leaf-key-usage-critical", "The leaf certificate's key usage is critical and digitalSignature alone.", l.with(leaf, func(c *certificate) { c.setExtension(oidKeyUsage, true, usageSignDocuments) }))
	f.reject(extension, "leaf-critical-extended-key-usage", "The leaf certificate has a critical extended key usage, for TLS servers.", l.with(leaf, func(c *certificate) {
		c.setExtension(oidExtendedKeyUsage, true, der(derSequence, der(derOID, []byte{0x2b, 6, 1, 5, 5, 7, 3, 1})))
	}))
}
