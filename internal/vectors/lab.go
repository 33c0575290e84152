package vectors

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// noon is the time at which all documents are made.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

var (
	image = []byte("the image of the test vectors")
	nonce = []byte("a nonce of the test vectors")
)

// lab has an enclave and, unlike any attacker, the keys of all authorities
// above it, so that it can have them sign what they never would.
type lab struct {
	pki     *nsmtest.PKI
	enclave *nsmtest.NSM
	keys    map[nsmtest.Level]crypto.Signer
	path    path   // the enclave's
	base    fields // of the document raw
	raw     []byte // as the enclave's NSM made it
	err     error  // the first that occurred
}

// path is a chain of certificates.
type path struct {
	certificates [][]byte      // root first, leaf last
	key          crypto.Signer // the leaf's
}

func newLab() (*lab, error) {
	l := &lab{keys: map[nsmtest.Level]crypto.Signer{}}
	var err error
	l.pki, err = nsmtest.NewPKI(nsmtest.PKIOptions{
		Clock: func() time.Time { return noon },
		GenerateKey: func(level nsmtest.Level) (crypto.Signer, error) {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if l.keys[level] == nil { // the first is the enclave's, which is made first
				l.keys[level] = key
			}
			return key, err
		},
	})
	if err != nil {
		return nil, err
	}
	l.enclave, err = nsmtest.New(nsmtest.Options{Image: image, PKI: l.pki, EditDocument: func(d *nsmtest.Document) {
		l.base = fieldsOf(d)
	}})
	if err != nil {
		return nil, err
	}
	l.raw = l.attest(l.enclave, nsm.AttestationRequest{Nonce: nonce})
	chain, err := l.enclave.Chain()
	if err = errors.Join(l.err, err); err != nil {
		return nil, err
	}
	l.path = path{append(chain.CABundle, chain.Certificate), chain.Key}
	if !bytes.Contains(l.raw, l.base.encode()) {
		return nil, errors.New("a payload isn't encoded as the software NSM encodes it")
	}
	return l, nil
}

// note keeps the first error, so that the tables of vectors need not stop for
// each. Generate returns it.
func (l *lab) note(err error) {
	if l.err == nil {
		l.err = err
	}
}

// attest asks an NSM for a document.
func (l *lab) attest(n *nsmtest.NSM, request nsm.AttestationRequest) []byte {
	raw, err := nsm.NewSession(n).Attest(context.Background(), request)
	l.note(err)
	return raw
}

// attestOf makes another enclave under the same authorities and asks its NSM.
func (l *lab) attestOf(o nsmtest.Options) []byte {
	o.PKI = l.pki
	n, err := nsmtest.New(o)
	if err != nil {
		l.note(err)
		return nil
	}
	return l.attest(n, nsm.AttestationRequest{Nonce: nonce})
}

// signed has the enclave's NSM sign a payload.
func (l *lab) signed(payload []byte) []byte {
	raw, err := l.enclave.SignPayload(payload)
	l.note(err)
	return raw
}

// under puts the base document under other certificates.
func (l *lab) under(p path) []byte { return l.document(p.key, p.fill(l.base).encode()) }

// fill writes the certificates into a payload.
func (p path) fill(f fields) fields {
	last := len(p.certificates) - 1
	return f.set("certificate", cborBytes(p.certificates[last])).set("cabundle", bundle(p.certificates[:last]))
}

func (p path) clone() path { return path{slices.Clone(p.certificates), p.key} }

func (l *lab) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	l.note(err)
	return key
}
