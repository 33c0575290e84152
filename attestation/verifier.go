package attestation

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyvouch/keyvouch/attestation/internal/strictder"
	"github.com/keyvouch/keyvouch/internal/es384"
)

// Verifier verifies attestation documents by one policy. It is immutable and safe
// for concurrent use. Make one and keep it.
type Verifier struct {
	policy Policy
	roots  []trustedRoot
	clock  func() time.Time
	cache  *cache // nil if there is none

	// signatures counts the verifications of certificates' and documents' signatures,
	// for the test that bounds them.
	signatures atomic.Int64
}

// NewVerifier makes a [Verifier]. It refuses a policy that is empty or contradicts
// itself; the error is an [*Error] with [ReasonInvalidPolicy]. It keeps no reference
// to the policy's slices and maps.
func NewVerifier(policy Policy) (*Verifier, error) {
	if err := policy.validate(); err != nil {
		return nil, named("NewVerifier", err)
	}
	if policy.MaxAge == 0 {
		policy.MaxAge = DefaultMaxAge
	}
	if policy.MaxSkew == 0 {
		policy.MaxSkew = DefaultMaxSkew
	}
	policy.Measurements = slices.Clone(policy.Measurements)
	for i, m := range policy.Measurements {
		policy.Measurements[i].PCRs = maps.Clone(m.PCRs)
	}
	v := &Verifier{policy: policy, clock: policy.Clock}
	for _, root := range policy.Roots {
		// A copy of the verifier's own, which nobody can change.
		own, err := parseRoot(root.Raw)
		if err != nil {
			return nil, named("NewVerifier", err)
		}
		v.roots = append(v.roots, trustedRoot{own, rootKey(own)})
	}
	if !policy.DisableCache {
		v.cache = newCache()
	}
	if v.clock == nil {
		v.clock = time.Now
	}
	if policy.Roots == nil {
		root := AWSNitroRoot()
		v.roots = []trustedRoot{{root, rootKey(root)}}
	}
	return v, nil
}

// Verify checks the form of raw, its certificates, its signature, the policy and
// expect, in this order. It verifies no signature if the root is not trusted.
// Otherwise it verifies at most one for each certificate below the root, and one for
// the document.
//
// raw is the COSE_Sign1 structure as the NSM returned it, untagged or under tag 18,
// 1 to [MaxDocumentSize] bytes. Its base64 form is refused. Verify keeps no reference
// to raw.
//
// The error is always an [*Error], and the document beside it is nil.
//
// Do not use a document's bytes or their hash to recognize a replay: anyone can
// change a valid ECDSA signature into a second valid one. Use the nonce.
func (v *Verifier) Verify(raw []byte, expect Expect) (*Document, error) {
	document, err := v.verify(raw, expect)
	if err != nil {
		return nil, named("Verify", err)
	}
	return document, nil
}

func (v *Verifier) verify(raw []byte, expect Expect) (*Document, error) {
	if v == nil || v.clock == nil {
		return nil, fail(ReasonInvalidPolicy, "", "the Verifier is not from NewVerifier, so it has no policy")
	}
	if err := expect.validate(); err != nil {
		return nil, err
	}
	e, p, err := parse(raw)
	if err != nil {
		return nil, err
	}

	// now is when things may not have ended yet, start when they must have
	// begun.
	now, start := expect.At, expect.At
	if expect.At.IsZero() {
		now = v.clock()
		start = now.Add(v.policy.MaxSkew)
	}
	path, fresh, err := v.verifyChain(p, now, start)
	if err != nil {
		return nil, err
	}
	v.signatures.Add(1)
	if err := e.verify(path[len(path)-1]); err != nil {
		return nil, err
	}
	checked, err := v.judge(&p.Claims, &expect, now, start)
	if err != nil {
		return nil, err
	}
	// Only now, so that other customers' authentic documents, which anyone
	// can send, do not push out the certificates of the enclaves in use.
	v.cache.remember(fresh)
	return &Document{Claims: p.Claims, Checked: checked, chain: p.path()}, nil
}

// CacheStats returns what the cache of certificates has done since [NewVerifier].
// It is all zero with Policy.DisableCache.
func (v *Verifier) CacheStats() CacheStats {
	if v == nil {
		return CacheStats{}
	}
	return v.cache.stats()
}

func checkSignature(parent, child *x509.Certificate) error {
	if !es384.VerifyDER(strictder.PublicPoint(parent), child.RawTBSCertificate, child.Signature) {
		return errors.New("ECDSA verification failure")
	}
	return nil
}
