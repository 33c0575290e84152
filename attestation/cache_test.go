package attestation

import (
	"crypto/x509"
	"encoding/binary"
	"sync"
	"testing"
)

func numberedKey(caller, i int) (key cacheKey) {
	binary.BigEndian.PutUint64(key[8:], uint64(caller))
	binary.BigEndian.PutUint64(key[16:], uint64(i))
	return key
}

// A flood of other certificates does not push out one that is in use.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	c := newCache()
	used := cacheKey{0xff}
	c.insert(used, &x509.Certificate{})
	for i := range 5 * MaxCacheEntries {
		c.insert(numberedKey(0, i), &x509.Certificate{})
		if i%100 == 0 && c.lookup(used) == nil {
			t.Fatalf("it was dropped after %d others", i)
		}
	}
	if c.lookup(numberedKey(0, 0)) != nil {
		t.Error("an entry out of use was kept")
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newCache()
	const callers = 4
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range 3 * MaxCacheEntries {
				c.insert(numberedKey(caller, i), &x509.Certificate{})
				if n := c.stats().Entries; n > MaxCacheEntries+callers {
					t.Errorf("%d entries", n)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNilCache(t *testing.T) {
	t.Parallel()
	var c *cache
	c.remember([]cacheEntry{{cacheKey{}, &x509.Certificate{}}})
	if c.lookup(cacheKey{}) != nil || c.stats() != (CacheStats{}) {
		t.Error("a nil cache holds something")
	}
}
