// Package vsockproxy carries TLS from inside an AWS Nitro Enclave to one fixed
// target on the internet, through the enclave's only way out: a vsock to its
// parent instance. The parent forwards ciphertext that it cannot read.
package vsockproxy
