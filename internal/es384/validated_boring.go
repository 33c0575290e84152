//go:build boringcrypto

package es384

// validatedOnly says that the process is to use validated cryptography only: with
// GOEXPERIMENT=boringcrypto that is BoringCrypto's, through crypto/ecdsa.
func validatedOnly() bool { return true }
