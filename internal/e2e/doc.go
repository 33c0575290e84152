// Package e2e is the end-to-end test on a real kernel:
//
//	bash internal/e2e/run
//
// boots Linux under QEMU with its emulated Nitro Secure Module (NSM), three times: on a
// PC (q35), and as QEMU's nitro-enclave machine from an enclave image file, which
// it measures into the PCRs as a Nitro hypervisor does, first from one with these
// checks and then from that of examples/enclave. In it the library meets
// the kernel's own nsm driver, its AF_VSOCK and its random generator, which no
// software NSM has. Nothing of it is part of go test: it takes minutes, root and
// a download the first time. See the script run for what it needs, and README.md
// in this folder for what is real and what is not.
//
// The folder has the programs guest, which is the first process of the booted
// machine and runs the checks, and host, which builds the images, boots them,
// plays the parent instance, AWS and KMS, and judges what the guest reports. What
// passes between them is here.
package e2e
