// Package interop tests keyvouch against data and software of others: real
// attestation documents and KMS envelopes that Go modules carry in their test
// data. It is a module of its own, so that none of these modules is ever a
// dependency of an enclave.
//
//	cd internal/interop && go test ./...
//
// The first run fetches the modules through the Go module proxy.
package interop
