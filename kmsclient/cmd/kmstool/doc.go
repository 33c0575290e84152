// Kmstool calls AWS KMS from inside a Nitro Enclave for programs in any
// language: it attests the enclave, and prints what KMS releases to it. It takes
// the place of kmstool_enclave_cli of the AWS Nitro Enclaves SDK for C: put it
// where that program was, under its name, and leave the caller as it is.
//
//	kmstool decrypt --ciphertext BASE64|--ciphertext-file FILE [--key-id ARN] [flags]
//	kmstool genkey --key-id ARN --key-spec AES-256|AES-128 [flags]
//	kmstool genkeypair --key-id ARN --key-pair-spec SPEC [flags]
//	kmstool genrandom --length BYTES [flags]
//
// The command comes first. A flag's value follows it, or an equals sign. kmstool
// COMMAND -h lists a command's flags. The one-letter flags of kmstool_enclave_cli
// work too:
//
//	-r  --region                 -c  --ciphertext
//	-x  --proxy-port             -K  --key-id
//	-k  --aws-access-key-id      -p  --key-spec
//	-s  --aws-secret-access-key  -a  --encryption-algorithm
//	-t  --aws-session-token      -l  --length
//
// A ciphertext in a file is in base64 too, with line breaks if need be.
// --ciphertext-file - is the standard input; - is nothing special to
// --ciphertext, so that its value may come from anyone.
//
// It is one file: built with CGO_ENABLED=0 it is statically linked, and needs
// neither libnsm.so nor CA certificates in the image, only /dev/nsm.
//
// # Output
//
// One line each, in base64, on the standard output, and nothing else there:
//
//	decrypt     PLAINTEXT: …
//	genkey      CIPHERTEXT: …   the data key, encrypted with the KMS key: store it
//	            PLAINTEXT: …    the data key
//	genkeypair  CIPHERTEXT: …   the private key, encrypted with the KMS key
//	            PLAINTEXT: …    the private key, PKCS #8 in DER
//	            PUBLICKEY: …    the public key, SPKI in DER
//	genrandom   PLAINTEXT: …
//
// With --json it is one JSON object in a line instead, with the members
// plaintext, ciphertext and public_key, and key_id, the ARN of the KMS key that
// answered. A failure is then an object too, {"error": {…}}, with message, reason
// (one of kmsclient.Reason's or nsm.Reason's, timeout or interrupted), and, if KMS
// answered, its code and request_id, debug and pcrs, what the document held. That
// is so with either exit code, 1 or 2, but for mistakes in the command line that
// are found in reading it, before anything is done: they are text on the standard
// error only, and nothing is on the standard output.
//
// On the standard error are, in lines of text, warnings and the error with its
// hint. No secret is ever there: no plaintext, no secret access key, no session
// token. Where one got into another flag's value, or into what KMS says, the
// message has (secret) instead.
//
// # Which key
//
// A full key ARN in --key-id (arn:aws:kms:REGION:ACCOUNT:key/ID) pins the key:
// nothing but an answer of that very key is printed. Use it. Without, decrypt
// prints whatever plaintext the ciphertext's sender chose to encrypt with a key
// of their own, and a data key of genkey may be one that others can decrypt: the
// parent instance hands over the credentials, and may hand over some of another
// account, in which an alias or a key ID is another key. kmstool_enclave_cli
// allows all that, so that kmstool does too, with a warning; --unsafe-any-key
// says that it is meant, and there is no warning.
//
// An encryption context is given in one or more --encryption-context, KEY=VALUE
// each, or a JSON object of strings, which begins with a brace. A comma is part of
// a value. It must be the same for decrypt as it was for genkey, genkeypair or
// kms:Encrypt. It is not secret: CloudTrail shows it. What is not UTF-8, such as half
// of a surrogate pair in JSON, is refused, and so is U+FFFD, which usually stands
// for it: contexts that differ only there would be one.
//
// # Credentials
//
// They are the first of these that is there:
//
//   - --aws-access-key-id, --aws-secret-access-key and, for those of a role,
//     --aws-session-token. What is on a command line, any process of the enclave
//     can read in /proc;
//   - those of the parent instance's role, with --imds-port or --imds: a port on
//     which the parent forwards to its metadata service, as by
//     vsock-proxy 8002 169.254.169.254 80 (which must be on its allowlist). Only
//     IMDSv2 is used;
//   - AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the
//     environment, which only processes of the same user can read. In Python, it
//     is the env of subprocess.run.
//
// So a flag comes before the environment, as with the region: what an image or a
// shell left there does not replace what was asked for. If the role's cannot be had,
// that is an error; the environment is not tried next. (kmsclient.LoadConfig has
// the environment first.)
//
// No files, and no other variables of the AWS SDKs, are read. Credentials need
// not be secret from the parent: the key policy's conditions on the image are
// what protects a key.
//
// # Region and endpoint
//
// The region is --region, else the one in --key-id's ARN, else AWS_REGION, else
// AWS_DEFAULT_REGION, else, as in kmstool_enclave_cli, us-east-1, with a warning.
// The metadata service is not asked: it is the parent's word.
//
// KMS is reached through the parent's proxy at port 8000 of vsock context 3, or
// another port with --proxy-port, or anywhere with --proxy. TLS ends in this
// process, with KMS's host name and Amazon's roots, so the proxy needs no trust.
//
// --endpoint is for another name of KMS's, such as that of a FIPS or VPC endpoint.
// A name that is not KMS's is refused unless --endpoint-host repeats it, so that
// an endpoint may come from a configuration that is not trusted. Whoever holds a
// certificate for such a name can forge answers. --root-cas is for the isolated
// partitions of AWS, whose endpoints Amazon's public roots do not certify: with it,
// only the roots in that file count.
//
// # What differs from kmstool_enclave_cli
//
//   - --aws-session-token may be left out or empty, and --encryption-algorithm
//     beside --key-id too, for a symmetric key.
//   - Errors say what KMS said. Exit codes differ, see below. Help is on the
//     standard output and exits with 0.
//   - A flag that the command does not have is an error. Only those which genkey
//     and genrandom of kmstool_enclave_cli ignored are ignored, with a warning.
//   - An answer of another key than the one in --key-id is refused.
//   - Failures that pass, such as throttling, are retried, with a fresh document
//     each time, within --timeout.
//
// As kmstool_enclave_cli does, it stirs randomness of the NSM into the kernel's
// pool before it makes a key, for kernels that do not do so themselves.
//
// # Exit codes
//
// 0 if the output is printed; 1 if KMS refused, or something failed: then nothing
// but an error is printed; 2 if it was called wrongly, be it by a file that a flag
// names, and nothing was sent to KMS. All takes at most --timeout, a minute if it
// is not given. SIGINT and SIGTERM end it early, with 1.
package main
