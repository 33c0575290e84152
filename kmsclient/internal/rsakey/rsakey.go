// Package rsakey makes the RSA keys that KMS encrypts its answers to.
package rsakey

import (
	"crypto/rand"
	"crypto/rsa"
)

// Generate makes a key of so many bits. It is a variable so that the tests of package
// kmsclient and of those below it can put prepared keys in its place, from TestMain:
// making keys was most of their time. No other code assigns to it, which a test holds.
var Generate = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
