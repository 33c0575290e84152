// Package kmstest runs a stand-in for AWS KMS in tests of programs for AWS Nitro
// Enclaves.
//
// A [Server] listens on 127.0.0.1 and speaks KMS's protocol over TLS. It evaluates key
// policies as KMS does and releases plaintexts to attested enclaves only:
//
//	nitro, err := nsmtest.New(nsmtest.Options{Image: image})       // a software NSM
//	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: nitro.Root()})
//	defer server.Close()
//	arn, err := server.CreateKey(kmstest.KeyOptions{
//		Policy: kmstest.AllowAttested(kmstest.PCREquals(0, nitro.PCR(0))),
//	})
//
// A client takes the region, the credentials and the host name from [Server.Config],
// trusts [Server.RootCAs], and dials [Server.Addr] directly or through a proxy. The
// example shows a plain *kms.Client. The Options of package kmsclient take RootCAs and
// a Dial that always connects to Addr:
//
//	Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
//		return new(net.Dialer).DialContext(ctx, network, server.Addr())
//	}
//
// [Server.Requests] returns each request with its encryption context, what its
// document attests, and why it was refused.
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
// [Server.Inject] makes later requests fail as they do in production: by throttling,
// by an error of the service or a load balancer, by a late response or none, or by a
// connection that ends before or within the response. [Server.Requests] says which
// requests failed, so a test can count a client's attempts.
//
// # Clocks
//
// To test a client whose clock is wrong, move the server's clock. If Options.Clock is
// an hour ahead, every client is an hour slow. The server refuses the signature, and
// the SDK learns the time from the Date header and tries again. Attestation documents
// are judged by the same clock. Give it to nsmtest.Options.Clock too, or they are
// refused as expired or not yet valid.
//
// # Envelopes
//
// KMS has encoded the content of CiphertextForRecipient in two ways. Run the tests of a
// program that parses it with each [EnvelopeForm].
//
// # What a policy must not allow
//
// A policy protects a key by attestation only if every action that leads to its
// plaintexts has the condition. These actions have no Recipient. They bypass the
// condition if a statement without it allows them to anyone:
//
//   - kms:ReEncryptFrom, also as part of kms:ReEncrypt*, re-encrypts the key's
//     ciphertexts under a key of the caller's choice.
//   - kms:CreateGrant can allow Decrypt, and no grant constraint is about attestation.
//   - kms:PutKeyPolicy replaces the policy.
//   - kms:* and * include all of these and Decrypt.
//
// IAM policies can allow them too, if a statement for the account leaves the decision
// to IAM. [ParsePolicy] accepts such statements, because it does not know who
// administers the key. The server has none of these operations, so a test passes
// although the key is open in KMS. Allow them only to an administrator's role whose
// credentials never reach the enclave's parent.
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
// KMS's service model has no exception about attestation. If the PCRs do not match the
// policy, the response is an AccessDeniedException with KMS's text. KMS's response to a
// document that does not verify (wrong root, expired, damaged, no RSA key) is not
// published. The server sends a ValidationException with the text "The attestation
// document in the request is not valid: " and the reason. Do not rely on either.
//
// An enclave in debug mode has zero PCRs. As in KMS, its document verifies, and a
// policy that asks for zeros allows it.
//
// The functions of this package return an [*Error] with a [Reason].
//
// # Safety
//
// The zero value of [Options] refuses every Recipient, and no option accepts
// unverified documents. Only tests should import this package.
package kmstest
