//go:build !boringcrypto

package es384

import "crypto/fips140"

// validatedOnly says that the process is to use validated cryptography only.
func validatedOnly() bool { return fips140.Enabled() }
