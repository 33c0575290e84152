// Package nsm talks to the Nitro Secure Module (NSM) of an AWS Nitro Enclave:
// it gets attestation documents, reads, extends and locks PCRs, and gives
// randomness. It is for code that runs inside the enclave.
//
//	session, err := nsm.Open()
//	if errors.Is(err, nsm.ReasonNoDevice) {
//		// not inside an enclave
//	}
//	defer session.Close()
//	document, err := session.Attest(ctx, nsm.AttestationRequest{Nonce: nonce})
//
// One [Session] serves a whole program: it is safe for concurrent use, and the
// driver handles one request at a time anyway. Every error is an [*Error] that
// says in Reason what kind of failure it is, in Code what the NSM itself said,
// and in its text what to do.
//
// # PCRs
//
// The NSM has 32 platform configuration registers of 48 bytes. PCRs 0 to 15 are
// locked when the enclave starts: PCR0 is the hash of the image, PCR1 of the
// kernel and boot ramdisk, PCR2 of the applications, PCR3 of the parent
// instance's IAM role, PCR4 of its ID, PCR8 of the certificate that signed the
// image. An enclave may extend PCRs 16 to 31 with what it measures itself and
// lock them; only locked PCRs are in a document. In debug mode PCRs 0 to 2 are
// zero.
//
// # Randomness
//
// A Session is an io.Reader of the NSM's randomness. An enclave starts with
// little entropy of its own. Seed the kernel's generator at boot, before the
// program makes keys:
//
//	err := session.SeedKernel(ctx)
//
// Linux 6.8 and later with CONFIG_NSM feed their pool from the NSM by themselves,
// but for all one knows after the first keys.
//
// The package [github.com/keyvouch/keyvouch/nsm/boot] does this with the other duties
// of an enclave's first process.
//
// # Outside an enclave
//
// The package builds on every operating system. Where there is no NSM, [Open]
// fails with [ReasonNoDevice]. For tests the package nsmtest has an NSM in
// software, for [NewSession].
//
// The limits and the CBOR of requests and responses follow AWS's
// aws-nitro-enclaves-nsm-api and the Linux driver, drivers/misc/nsm.c.
package nsm
