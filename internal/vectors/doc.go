// Package vectors makes, reads and runs the published test vectors for
// verifiers of attestation documents, attestation/testdata/vectors. Their
// README describes the files for implementations in any language.
//
// The vectors are made by this package, with a root and keys of their own:
//
//	go run ./internal/vectors/generate
//
// Keys and serial numbers are random and are forgotten afterwards, so that
// another run changes every byte of the files, though neither the names nor
// what is expected. No private key is ever written.
//
// What is expected of a vector is written beside the code that makes it, not
// taken from what the verifier does.
package vectors
