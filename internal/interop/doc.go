// Package interop tests keyvouch against data and software of others: real
// attestation documents and KMS envelopes that Go modules carry in their test
// data, Wycheproof's vectors, libraries that take a KMS client, OpenSSL, and the AWS SDK
// for JavaScript. It is a module of its own, so that none of these modules is
// ever a dependency of an enclave.
//
//	cd internal/interop && go test ./...
//
// The first run fetches the modules through the Go module proxy. Where there is
// Node.js, it also installs the JavaScript SDK from npm's registry, by the lock
// file in the folder js, into the user's cache folder; the tests that need it
// are skipped where there is not, or where the registry cannot be reached.
//
// Two programs measure against others; neither is part of the tests. The folder
// compare does it for the verification of documents and for envelopes, and the
// folder proxybench for the vsock proxy:
//
//	go run ./compare
//	proxybench/run
package interop
