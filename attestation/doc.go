// Package attestation verifies the attestation documents of AWS Nitro
// Enclaves (and of EC2 instances with a NitroTPM) and judges them by a policy.
//
// A document is a statement, signed by the Nitro Security Module beside an
// enclave: this image is running here, now, and it asked me to sign these
// bytes. The statement is worth something to a relying party, the program
// that is about to trust the enclave, only if all of this holds:
//
//   - the document is exactly of the form that NSMs write;
//   - its certificates lead to the AWS Nitro root, and are valid;
//   - its signature is of the last of these certificates;
//   - its PCRs are those of an image that you built and reviewed, and the
//     enclave does not run in debug mode;
//   - it was made for you, now: it carries your nonce and is not old.
//
// [Verifier.Verify] checks all of it in one call and returns a [Document] only
// if all of it holds. There is no other way to get one.
//
// # Use
//
// Once, at start:
//
//	verifier, err := attestation.NewVerifier(attestation.Policy{
//		Measurements: []attestation.Measurement{release},
//	})
//
// with the PCR0, PCR1 and PCR2 that nitro-cli build-enclave printed, or that
// package eif measures in the image's file. Then, for each document: make a random nonce,
// send it to the enclave, and
//
//	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
//
// What doc.PublicKey and doc.UserData hold was put there by the very image
// that was measured, so what they mean is for that image's source to say.
//
// # What is refused by default
//
// An empty policy; a measurement that does not pin PCR0, 1 and 2 together;
// debug mode; a missing expectation of a nonce; documents older than
// [DefaultMaxAge] or dated more than [DefaultMaxSkew] ahead; any root but
// AWS's. What loosens these is named Unsafe, but for roots (Policy.Roots), for
// the times (Policy.MaxAge and MaxSkew) and for documents of the past
// (Expect.At), which are plain choices.
//
// # Errors
//
// Every error is an [*Error] whose Reason is a stable string. The document is
// nil beside every error. [ParseUnverified] is for looking at bytes only and
// returns another type.
//
// The rules are those of attestation_process.md in AWS's
// aws-nitro-enclaves-nsm-api, as real documents keep them.
package attestation
