// Package attestation verifies the attestation documents of AWS Nitro
// Enclaves (and of EC2 instances with a NitroTPM) and judges them by a policy.
//
// A document is a statement signed by the Nitro Security Module (NSM) beside an
// enclave: this image is running here, now, and it asked me to sign these bytes.
// A relying party can trust the enclave only if all of this holds:
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
// where release has the PCR0, PCR1 and PCR2 that nitro-cli build-enclave printed, or
// that package [github.com/keyvouch/keyvouch/attestation/eif] measured. Then, for
// each document, make a random nonce, send it to the enclave, and
//
//	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
//
// The measured image itself put PublicKey and UserData into the document. Their
// meaning is defined by that image's source.
//
// # What is refused by default
//
// An empty policy; a measurement that does not pin PCR0, 1 and 2 together;
// debug mode; a missing expectation of a nonce; documents older than
// [DefaultMaxAge] or dated more than [DefaultMaxSkew] ahead; any root but
// AWS's. Options that loosen this are named Unsafe. Policy.Roots, Policy.MaxAge,
// Policy.MaxSkew and Expect.At are plain choices and are not.
//
// # Errors
//
// Every error is an [*Error] whose [Reason] is a stable string, and
// errors.Is(err, ReasonNonce) asks for one. A function that returns an error returns
// no document. [ParseUnverified] is for looking only and returns another type.
//
// The rules are those of attestation_process.md in AWS's
// aws-nitro-enclaves-nsm-api, as real documents keep them.
package attestation
