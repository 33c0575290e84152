package nsmtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"sync"
	"time"
)

// Level is the place of a certificate in the chain.
type Level int

// The levels of AWS's chain, from the root down.
const (
	LevelRoot     Level = iota // self-signed, 30 years
	LevelRegional              // path length 2, 20 days
	LevelZonal                 // path length 1, about 6 days
	LevelInstance              // path length 0, 24 hours, one per parent instance
	LevelLeaf                  // signs documents, 3 hours and 3 seconds
)

// String returns "root", "regional", "zonal", "instance" or "leaf".
func (l Level) String() string {
	switch l {
	case LevelRoot:
		return "root"
	case LevelRegional:
		return "regional"
	case LevelZonal:
		return "zonal"
	case LevelInstance:
		return "instance"
	case LevelLeaf:
		return "leaf"
	}
	return "unknown"
}

// PKIOptions change the PKI that signs documents. The zero value makes one
// shaped like AWS's.
type PKIOptions struct {
	// Clock is the time at which the root is made, and the default for the
	// NSMs that use the PKI. Nil means time.Now.
	Clock func() time.Time

	// EditCertificate, if set, is called with the template of every
	// certificate before it is signed, so that a test can have chains that AWS
	// never makes. It must not call the PKI or an NSM that uses it.
	EditCertificate func(level Level, template *x509.Certificate)

	// GenerateKey, if set, makes the key of every certificate. Nil makes
	// ECDSA keys on P-384, as AWS does. A leaf whose key is not ECDSA cannot
	// sign documents. It must not call the PKI or an NSM that uses it.
	GenerateKey func(level Level) (crypto.Signer, error)
}

// PKI is a certificate hierarchy of AWS's shape, with keys of its own. The root
// differs from AWS's in its key, serial number and dates only. It is safe for
// concurrent use.
type PKI struct {
	opts PKIOptions
	root *authority
	cert *x509.Certificate

	mu       sync.Mutex
	regional *authority
	zonal    *authority
}

// NewPKI makes a root. The authorities under it are made when they are needed.
// It fails with [ReasonCertificate] only if a hook asks for the impossible.
func NewPKI(opts PKIOptions) (*PKI, error) {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	p := &PKI{opts: opts}
	var err error
	if p.root, err = p.issue(LevelRoot, rootTemplate(opts.Clock()), nil); err != nil {
		return nil, err
	}
	// Parsed from a copy, because the certificate keeps the bytes it came from.
	if p.cert, err = x509.ParseCertificate(bytes.Clone(p.root.der)); err != nil {
		return nil, &Error{Op: "NewPKI", Reason: ReasonCertificate, Detail: "the root that EditCertificate made cannot be parsed", Err: err}
	}
	return p, nil
}

// Root returns the certificate that a verifier must trust instead of AWS's.
func (p *PKI) Root() *x509.Certificate { return p.cert }

// zonalAt returns a zonal authority that is valid at now, and its superiors.
func (p *PKI) zonalAt(now time.Time) (zonal *authority, bundle [][]byte, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.regional.usable(now, p.root) {
		if p.regional, err = p.issue(LevelRegional, regionalTemplate(now), p.root); err != nil {
			return nil, nil, err
		}
	}
	if !p.zonal.usable(now, p.regional) {
		if p.zonal, err = p.issue(LevelZonal, zonalTemplate(now), p.regional); err != nil {
			return nil, nil, err
		}
	}
	return p.zonal, [][]byte{p.root.der, p.regional.der, p.zonal.der}, nil
}

func (p *PKI) generateKey(level Level) (crypto.Signer, error) {
	if p.opts.GenerateKey != nil {
		return p.opts.GenerateKey(level)
	}
	return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
}

// renewBefore is how long before its end a certificate is replaced, so that a
// document can be verified for a while after it was signed.
const renewBefore = 30 * time.Minute

// authority is a certificate with its key. Also the leaf is one.
type authority struct {
	key    crypto.Signer
	der    []byte
	issuer *authority

	// What the certificates below it need of it.
	subject []byte // DER
	keyID   []byte

	// The validity before EditCertificate changed it: a certificate that a
	// test made expired must not be replaced for that.
	notBefore, notAfter time.Time
}

// usable tells whether a certificate, which may be nil, is still good for new
// documents. It is not when its issuer has been replaced.
func (a *authority) usable(now time.Time, issuer *authority) bool {
	return a != nil && a.issuer == issuer && !now.Before(a.notBefore) && now.Before(a.notAfter.Add(-renewBefore))
}

// Chain is what signs documents: the leaf's key and certificates.
type Chain struct {
	// Key is the leaf's private key, an *ecdsa.PrivateKey unless
	// PKIOptions.GenerateKey says otherwise.
	Key crypto.Signer

	// Certificate is the leaf's certificate, DER.
	Certificate []byte

	// CABundle holds the authorities' certificates, DER: root, regional, zonal
	// and instance.
	CABundle [][]byte
}

// identity is the part of the chain that belongs to one NSM.
type identity struct {
	pki                  *PKI
	instanceID, moduleID string

	mu       sync.Mutex
	instance *authority
	leaf     *authority
}

func newIdentity(pki *PKI, instanceID, moduleID string) *identity {
	return &identity{pki: pki, instanceID: instanceID, moduleID: moduleID}
}

// at returns a chain that is valid at now, with new certificates for those that
// are about to expire. Its bytes are the caller's own.
func (id *identity) at(now time.Time) (Chain, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	zonal, bundle, err := id.pki.zonalAt(now)
	if err != nil {
		return Chain{}, err
	}
	if !id.instance.usable(now, zonal) {
		if id.instance, err = id.pki.issue(LevelInstance, instanceTemplate(now, id.instanceID), zonal); err != nil {
			return Chain{}, err
		}
	}
	if !id.leaf.usable(now, id.instance) {
		if id.leaf, err = id.pki.issue(LevelLeaf, leafTemplate(now, id.moduleID), id.instance); err != nil {
			return Chain{}, err
		}
	}
	// The bytes go to who may change them, and the PKI may be shared.
	chain := Chain{Key: id.leaf.key, Certificate: bytes.Clone(id.leaf.der)}
	for _, der := range append(bundle, id.instance.der) {
		chain.CABundle = append(chain.CABundle, bytes.Clone(der))
	}
	return chain, nil
}
