package attestation

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"sync/atomic"
)

// Verifying a document costs five P-384 signatures, four of them on
// certificates that thousands of documents share: the authorities' live for
// days, and an enclave's own for three hours. The cache remembers which
// certificates, under exactly which certificates above them, were found
// rightly signed.
//
// It cannot make anything valid that is not: the key is a hash over the whole
// path from the root, and what depends on time, place or policy is checked on
// every call all the same. It takes in certificates only from documents that
// were accepted, and it is bounded, since every AWS customer can have valid
// certificates made.

// cacheKey identifies a certificate and all above it.
type cacheKey [sha256.Size]byte

func rootKey(root *x509.Certificate) cacheKey { return sha256.Sum256(root.Raw) }

// below is the key of a certificate under the one that k identifies.
func (k cacheKey) below(der []byte) cacheKey {
	var buf [len(k) + MaxCertificateSize]byte
	n := copy(buf[:], k[:])
	n += copy(buf[n:], der)
	return sha256.Sum256(buf[:n])
}

type cacheEntry struct {
	key  cacheKey
	cert *x509.Certificate
}

// CacheStats counts what a Verifier's cache of certificates has done.
type CacheStats struct {
	// Hits and Misses count certificates, not documents: a document has four
	// below its root.
	Hits, Misses uint64
	// Entries counts the certificates held now: at most MaxCacheEntries, and one
	// more for each concurrent call of Verify.
	Entries int
}

// cache holds two generations, so that bounding it needs neither a list nor a
// lock on the path of a hit: when the young one is full, it becomes the old
// one, and what is not used again goes with the next change.
type cache struct {
	young, old   atomic.Pointer[generation]
	turning      sync.Mutex
	hits, misses atomic.Uint64
}

type generation struct {
	certs sync.Map // cacheKey to *x509.Certificate
	size  atomic.Int64
}

func newCache() *cache {
	c := &cache{}
	c.young.Store(&generation{})
	c.old.Store(&generation{})
	return c
}

// lookup returns the certificate, or nil. A nil cache has none.
func (c *cache) lookup(key cacheKey) *x509.Certificate {
	if c == nil {
		return nil
	}
	if cert, ok := c.young.Load().certs.Load(key); ok {
		c.hits.Add(1)
		return cert.(*x509.Certificate)
	}
	if cert, ok := c.old.Load().certs.Load(key); ok {
		c.hits.Add(1)
		c.insert(key, cert.(*x509.Certificate)) // it is in use: keep it
		return cert.(*x509.Certificate)
	}
	c.misses.Add(1)
	return nil
}

// remember takes in the certificates of a verified document.
func (c *cache) remember(entries []cacheEntry) {
	if c == nil {
		return
	}
	for _, e := range entries {
		c.insert(e.key, e.cert)
	}
}

func (c *cache) insert(key cacheKey, cert *x509.Certificate) {
	young := c.young.Load()
	if young.size.Load() >= MaxCacheEntries/2 {
		young = c.turn(young)
	}
	if _, loaded := young.certs.LoadOrStore(key, cert); !loaded {
		young.size.Add(1)
	}
}

// turn makes the full generation the old one, once however many call it.
func (c *cache) turn(full *generation) *generation {
	c.turning.Lock()
	defer c.turning.Unlock()
	if current := c.young.Load(); current != full {
		return current
	}
	c.old.Store(full)
	young := &generation{}
	c.young.Store(young)
	return young
}

func (c *cache) stats() CacheStats {
	if c == nil {
		return CacheStats{}
	}
	return CacheStats{
		Hits:    c.hits.Load(),
		Misses:  c.misses.Load(),
		Entries: int(c.young.Load().size.Load() + c.old.Load().size.Load()),
	}
}
