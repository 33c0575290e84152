// Package nsm talks to the Nitro Secure Module (NSM) of an AWS Nitro Enclave:
// it gets attestation documents, reads, extends and locks PCRs, and gives
// randomness.
package nsm
