// Package kmstest is a stand-in for AWS KMS, for tests of programs that run in
// an AWS Nitro Enclave, as net/http/httptest is one for web servers.
//
// A [Server] listens on 127.0.0.1, speaks KMS's protocol over real TLS, and
// releases keys to attested enclaves only, by the key policies of production:
//
//	nitro, err := nsmtest.New(nsmtest.Options{Image: image})       // a software NSM
//	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: nitro.Root()})
//	defer server.Close()
//	arn, err := server.CreateKey(kmstest.KeyOptions{
//		Policy: kmstest.AllowAttested(kmstest.PCREquals(0, nitro.PCR(0))),
//	})
//
// A client needs three things of it: [Server.Config] with the region, the
// credentials and the host name, [Server.RootCAs] to trust, and [Server.Addr]
// to dial, directly or through a proxy. The example shows a plain *kms.Client. For
// one of package kmsclient see that package's examples: its Options take RootCAs,
// and a Dial that connects to Addr whatever it is asked for:
//
//	Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
//		return new(net.Dialer).DialContext(ctx, network, server.Addr())
//	}
//
// [Server.Requests] tells afterwards what was asked, with which encryption
// context and attested as what, and why it was refused.
//
// # What is real
//
//   - TLS 1.2 or later, with a certificate for kms.<region>.amazonaws.com (or
//     Options.HostNames), 127.0.0.1 and localhost, from a certificate authority
//     that lives and dies with the server.
//   - The AWS JSON 1.1 protocol and Signature Version 4: the signature is
//     recomputed from what arrived, the scope, the session token and the clock
//     (five minutes either way) are checked, and the errors are AWS's. The SDK
//     corrects its clock by this server's as it does by KMS's.
//   - The operations Encrypt, Decrypt, GenerateDataKey,
//     GenerateDataKeyWithoutPlaintext, GenerateDataKeyPair, GenerateRandom,
//     DeriveSharedSecret, DescribeKey and GetPublicKey, with the limits of the
//     service model.
//   - The Recipient parameter of the five operations that have it. The
//     attestation document, of an enclave or a NitroTPM, is verified by package
//     attestation against Options.AttestationRoot: certificates, signature, age.
//     The answer is the CMS envelope KMS sends, byte for byte of the same shape,
//     and carries no plaintext.
//   - Key policies: [ParsePolicy] reads a policy as it stands in production and
//     refuses what it cannot evaluate. Of conditions it knows those on the
//     attestation and on the encryption context, with IAM's operators for
//     strings: see [Condition] and [Operator].
//   - The encryption context, bound to the ciphertext as additional data, to the
//     letter.
//   - Key IDs, key ARNs, aliases and alias ARNs as KeyId; answers name the key
//     by its ARN. [Server.SetAlias] points an alias at another key.
//   - Grant tokens, which change nothing where the policy alone decides.
//
// # Failures
//
// [Server.Inject] makes requests to come fail as they do in production: they
// are throttled, meet an error of the service or of a load balancer, are
// answered late or never, or lose their connection before or within the answer.
// Requests says afterwards which of them met a failure, so that a test can count
// a client's attempts.
//
// # Clocks
//
// To test a client whose clock is wrong, move the server's: with Options.Clock
// an hour ahead every client is an hour slow. The signature is then refused, and
// the SDK, which learns the time from the Date header, tries again with the
// difference made good. Attestation documents are judged by the same clock, so
// give it to nsmtest.Options.Clock as well, or see them refused as expired or
// not yet valid.
//
// # Envelopes
//
// KMS has encoded CiphertextForRecipient's content in two ways, and a program
// that opens it by itself must read both: run its tests with each
// [EnvelopeForm].
//
// # What a policy must not allow
//
// A policy protects a key by attestation only if each way to its plaintexts has
// the condition. These lead around it if a statement without the condition
// allows them to whoever holds the enclave's credentials, or to anyone else, as
// they have no Recipient:
//
//   - kms:ReEncryptFrom, also as part of kms:ReEncrypt*: it turns the key's
//     ciphertexts into ciphertexts of a key of the caller's choice, who then
//     decrypts those.
//   - kms:CreateGrant: a grant can allow Decrypt, and its constraints know no
//     attestation.
//   - kms:PutKeyPolicy: it replaces the policy.
//   - kms:* or *, which have all of these, and Decrypt itself.
//
// The same goes for IAM policies, where a statement for the account lets them
// decide. [ParsePolicy] cannot know who is meant to administer the key, so it
// takes such statements, and this server has none of the three operations: a
// test passes although in KMS the key would be open. Allow them, if at all, to
// an administrator's role whose credentials never come near the enclave's
// parent.
//
// # What is simplified
//
//   - The caller is one IAM role, in the account that owns the keys. Its IAM
//     policies allow everything or, with Options.WithoutIAMPermissions,
//     nothing; there are no grants, permission boundaries or service control
//     policies. A statement for the account, such as KMS's default "Enable IAM
//     User Permissions", hands the decision to those IAM policies: beside it, a
//     condition in another Allow statement protects nothing. That is so in KMS
//     too.
//   - Of condition keys there are those of [Condition] only: no
//     kms:ViaService, no aws:SourceVpc. A request whose encryption context has
//     names that differ by case alone is refused where a policy asks for one of
//     them.
//   - Keys live in memory: SYMMETRIC_DEFAULT, RSA for ENCRYPT_DECRYPT, and NIST
//     curves for KEY_AGREEMENT. GenerateDataKeyPair makes RSA and NIST curves'
//     pairs and ECC_NIST_EDWARDS25519; for ECC_SECG_P256K1 and SM2, of which
//     Go's library has none, it is an UnsupportedOperationException. Some texts
//     of errors about RSA keys are this package's. CreateKey, SetAlias and
//     [Server.SetKeyEnabled] are Go methods, not operations.
//   - Ciphertext blobs have a form of their own and are of no use to KMS, or to
//     another Server.
//   - Everything is consistent at once, and nothing is throttled or fails unless
//     a test asks for it with [Server.Inject].
//
// # Errors
//
// No exception of KMS's service model is about attestation. A policy that does
// not match the PCRs is an AccessDeniedException with KMS's text. What KMS
// answers to a document it cannot verify (wrong root, expired, damaged, no
// RSA key) is not published; here it is a ValidationException with the text
// "The attestation document in the request is not valid: " and the reason.
// That code and text are this package's reading: do not build on them.
//
// Debug mode: an enclave in debug mode has zero PCRs. As in KMS, its document
// verifies, and a policy that asks for zeros allows it.
//
// # Safety
//
// The zero value of Options refuses every Recipient, and no option accepts
// documents unverified. Nothing but tests should import this package.
package kmstest
