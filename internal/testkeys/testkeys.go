// Package testkeys has RSA keys for tests, made once: making one takes longer than
// most tests. They are public, so nothing but a test may use them. A test of the
// import graph sees to it that no production package reaches this one.
package testkeys

import (
	"crypto/rsa"
	"crypto/x509"
	_ "embed"
	"encoding/pem"
	"fmt"
	"sync"
	"sync/atomic"
)

//go:generate go run ./generate

//go:embed rsa.pem
var rsaPEM []byte

// keys are those of rsa.pem by their size in bits, in the file's order.
var keys = sync.OnceValue(func() map[int][]*rsa.PrivateKey {
	bySize := map[int][]*rsa.PrivateKey{}
	for rest := rsaPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return bySize
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			panic("testkeys: " + err.Error())
		}
		private := key.(*rsa.PrivateKey)
		bySize[private.N.BitLen()] = append(bySize[private.N.BitLen()], private)
	}
})

// RSA returns the i-th key of 2048 bits (i from 0 to 15), 3072 or 4096 (0 to 3). It is
// the same one each time, and shared: it must not be changed. It panics if there is
// none. It is safe for concurrent use.
func RSA(bits, i int) *rsa.PrivateKey {
	of := keys()[bits]
	if i < 0 || i >= len(of) {
		panic(fmt.Sprintf("testkeys: there is no key %d of %d bits", i, bits))
	}
	return of[i]
}

var next atomic.Uint64

// Next returns a key of 2048, 3072 or 4096 bits, in turn another one, in the place of
// making it. Any other size is an error. It is safe for concurrent use.
func Next(bits int) (*rsa.PrivateKey, error) {
	of := keys()[bits]
	if len(of) == 0 {
		return nil, fmt.Errorf("testkeys: there is no key of %d bits", bits)
	}
	return of[(next.Add(1)-1)%uint64(len(of))], nil
}
