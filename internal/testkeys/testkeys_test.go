package testkeys_test

import (
	"testing"

	"github.com/keyvouch/keyvouch/internal/testkeys"
)

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for bits, count := range map[int]int{2048: 16, 3072: 4, 4096: 4} {
		for i := range count {
			key := testkeys.RSA(bits, i)
			if err := key.Validate(); err != nil || key.N.BitLen() != bits {
				t.Errorf("key %d of %d bits has %d: %v", i, bits, key.N.BitLen(), err)
			}
			seen[key.N.String()] = true
			if _, err := testkeys.Next(bits); err != nil {
				t.Error(err)
			}
		}
	}
	if len(seen) != 24 {
		t.Errorf("there are %d keys that differ, want 24", len(seen))
	}
	if _, err := testkeys.Next(1024); err == nil {
		t.Error("there is a key of 1024 bits")
	}
}
