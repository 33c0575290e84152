// Package kmsclient makes AWS KMS clients for Nitro Enclaves: real
// *[kms.Client] values, whose answers only this enclave can decrypt.
//
//	session, err := nsm.Open()
//	…
//	// cfg is an aws.Config with region and credentials; LoadConfig makes one
//	dialer := vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8000)}
//	client, err := kmsclient.New(ctx, cfg, session, kmsclient.Options{
//		KeyIDs: []string{"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
//		Dial:   dialer.DialContext,
//	})
//	…
//	out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
//	// out.Plaintext is there, as with any KMS client
//
// Since it is the SDK's own type, it goes wherever a *kms.Client does: into the
// AWS Encryption SDK, gocloud.dev's secrets, Tink; the module in internal/interop
// tests these, and its example decrypts thousands of objects with few KMS calls.
// Code that calls kms.NewFromConfig itself takes the option that [Attested]
// returns.
//
// # What happens in a call
//
// Five operations of KMS take a recipient: Decrypt, GenerateDataKey,
// GenerateDataKeyPair, GenerateRandom and DeriveSharedSecret. On each call of
// one of them the client
//
//   - asks the Nitro Security Module for an attestation document that holds the
//     client's RSA public key, and sends it as the request's Recipient, in a
//     copy of the input. KMS checks the document and compares its PCRs with the
//     conditions in the key's policy (kms:RecipientAttestation:ImageSha384 and
//     kms:RecipientAttestation:PCR<n>);
//   - gets no plaintext in the answer, but an envelope for that RSA key, opens
//     it, and puts the plaintext where the SDK has it without attestation:
//     Plaintext, PrivateKeyPlaintext or SharedSecret. CiphertextForRecipient
//     is then nil, for nobody has a use for it.
//
// All other operations pass unchanged, but not to any key: see below. The input
// is never written to; leave its Recipient nil. What a middleware of yours makes
// of the input, up to the SDK's serializer, is what is checked, attested and
// sent; what one makes of the serialized body of these five is undone.
//
// Every attempt, if the SDK retries, has a new document, made after the
// waiting: none grows old in a back-off, nor while credentials are fetched for the
// first. A document lives as long as its
// certificate, three hours at most, by KMS's own clock. An attestation that
// fails and a server certificate that is not accepted are never retried: the
// first may already have cost the two minutes that the driver waits for an NSM,
// and neither heals in a second.
//
// # When something breaks
//
// A proxy that is killed or restarted, a connection that is cut at whatever
// point, a KMS that throttles or is out of order for a moment: each costs an
// attempt, and the SDK's retryer, from cfg, decides how many there are and how
// long the pauses. If the answer breaks off in its middle, KMS has carried out
// the request. Then the five operations are tried again, which change nothing in
// KMS, and others are not, as in any client of the SDK. After a kept connection
// has failed, all idle ones are closed, so that they do not cost an attempt each.
//
// A call ends when its context does, wherever it is held up. The [Error] then
// has ReasonCanceled, wraps the context's error, says how far the last attempt
// had come, and wraps the error of the one that failed before it, which is
// often what one wants to know. ReasonChannel is never the caller's deadline:
// an attempt and a dialer have limits of their own. An attester that honours the
// context is left with ReasonAttestation when it ends.
//
// # The key policy
//
// The enclave's credentials are known to the parent, as a rule, so that all that
// keeps the parent from the key is the conditions in the key's policy. Put them
// on every statement that allows kms:Decrypt, kms:GenerateDataKey,
// kms:GenerateDataKeyPair or kms:DeriveSharedSecret, and allow those
// credentials no way around them, neither in the key policy nor, if it has the
// statement for the account ("Enable IAM User Permissions"), in an IAM policy:
//
//   - kms:ReEncryptFrom, or kms:ReEncrypt*, hands the key's ciphertexts over to
//     another key;
//   - kms:CreateGrant allows others to decrypt, without attestation;
//   - kms:PutKeyPolicy removes the conditions;
//   - kms:* is all of these, and kms:Decrypt besides.
//
// None of the three takes a recipient: they cannot be made to need attestation,
// only be left out.
//
// # What is refused
//
// An envelope proves nothing about who made it: the public key it is for is in
// the attestation document, and the parent instance can read documents. That
// an answer is from KMS is known only because TLS ends there. So the client
//
//   - brings its own HTTP client, with TLS 1.2 or later, the roots of Amazon
//     and no others (or Options.RootCAs), the endpoint's host name verified, no
//     proxy of the environment, no CA bundle of the environment, no redirects;
//   - sends nothing to an endpoint that is not https, or whose host is neither
//     one of KMS's names nor in Options.Hosts, whatever the roots: a hostile
//     AWS_ENDPOINT_URL leads nowhere;
//   - sends no request that names another KMS key than those in Options.KeyIDs,
//     since what is encrypted with another's key is that other's to read. That
//     goes for every operation that names a key, Encrypt and ReEncrypt as well
//     as Sign or CreateGrant, but for those that only read about a key, such as
//     DescribeKey and GetPublicKey: Options.KeyIDs lists them. What they answer
//     is about whatever key was named: do not encrypt to a public key without
//     knowing its ARN. An alias is accepted by the five attested operations
//     only;
//   - takes attested answers only from those keys, since a plaintext from
//     another's key is that other's choice;
//   - refuses an answer that holds a plaintext in the clear, or no envelope, or
//     an envelope for another key, or a plaintext of another size than the one
//     asked for, or a data key without the ciphertext of it to store.
//
// In each case the output is nil and the error is an [Error] with a [Reason].
//
// # When KMS denies
//
// KMS has no error of its own for attestation. A document whose PCRs are not
// those in the key policy ends in an AccessDeniedException, as does a missing
// permission. So the [Error] has what there is to find out which: KMS's code,
// message and request ID, the PCRs of the document that was sent, whether it is
// one of debug mode, in which PCR0, PCR1 and PCR2 are zeros and no policy for a
// real image matches, and how far the enclave's clock is off KMS's. Its text
// has all this in one line, with the PCRs shortened. Compare them with those in
// the policy, which must be the ones of the very image that runs.
//
// # Entropy
//
// The RSA key, TLS and all else take their randomness from crypto/rand, that is
// from the kernel. Seed the kernel from the NSM at boot, before New, if nothing
// else does: package nsm's documentation says how. crypto/rsa takes no other
// reader since Go 1.26.
//
// # Credentials
//
// An enclave has no instance metadata service and no environment but that of
// its image. [LoadConfig] makes an aws.Config there: with the credentials of the
// parent instance's role, if the parent forwards its metadata service, or with
// any aws.CredentialsProvider, or from the environment.
//
// Credentials need not be secret from the parent, which usually hands them over:
// the key policy's conditions on the document are what protects the key. Nor
// need the parent be honest about them. With other credentials KMS either
// refuses or serves the same pinned keys (without pinned keys, it may be anyone's).
//
// # Limits
//
// The client has the RSA key that New made for life, unless Options.RotateEvery
// is set. An attempt has 30 seconds from dialing to the last byte. Options
// of a single call (the optFns of client.Decrypt and so on) are the SDK's own
// and come last: one that sets HTTPClient or empties APIOptions takes away what
// is promised here. Plaintexts are in ordinary memory of the Go runtime, which
// may move and copy them.
package kmsclient
