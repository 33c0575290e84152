// Kmstool calls AWS KMS from inside a Nitro Enclave, for programs in any language.
// It attests the enclave and prints what KMS releases to it. It replaces
// kmstool_enclave_cli of the AWS Nitro Enclaves SDK for C: install it under that
// name, and the caller needs no change.
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
// A ciphertext in a file is in base64 too, and may have line breaks.
// --ciphertext-file - reads the standard input. --ciphertext gives - no meaning, so
// its value may come from anyone.
//
// Built with CGO_ENABLED=0, kmstool is statically linked. It needs /dev/nsm, and
// neither libnsm.so nor CA certificates in the image.
//
// # Output
//
// The standard output has these lines, with values in base64, and nothing else:
//
//	decrypt     PLAINTEXT: …
//	genkey      CIPHERTEXT: …   the data key, encrypted with the KMS key: store it
//	            PLAINTEXT: …    the data key
//	genkeypair  CIPHERTEXT: …   the private key, encrypted with the KMS key
//	            PLAINTEXT: …    the private key, PKCS #8 in DER
//	            PUBLICKEY: …    the public key, SPKI in DER
//	genrandom   PLAINTEXT: …
//
// With --json, the standard output has one line with a JSON object. Its members are
// plaintext, ciphertext, public_key and key_id, the ARN of the KMS key that was
// used. A failure is an object too, {"error": {…}}. It has message and reason: a
// [github.com/keyvouch/keyvouch/kmsclient.Reason], a
// [github.com/keyvouch/keyvouch/nsm.Reason], timeout or interrupted. If KMS
// responded, it has KMS's code and request_id, and debug and pcrs from the attestation
// document. Mistakes in the command line are the exception: they are text on the
// standard error, and the standard output stays empty.
//
// The standard error has warnings, the error and its hint, as lines of text. It
// never has a plaintext, a secret access key or a session token. If one is part of
// another flag's value or of KMS's message, the text has (secret) in its place.
//
// # Which key
//
// A full key ARN in --key-id (arn:aws:kms:REGION:ACCOUNT:key/ID) pins the key.
// Responses from any other key are refused. Always give it. Without it, decrypt
// prints a plaintext that the ciphertext's sender may have chosen, encrypted with a
// key of their own, and others may be able to decrypt a data key of genkey. The
// reason is that the parent instance supplies the credentials: in another account,
// the same alias or key ID is another key. kmstool_enclave_cli allows this, so
// kmstool does too, with a warning. --unsafe-any-key turns the warning off.
//
// --encryption-context takes KEY=VALUE, or a JSON object of strings, which begins
// with a brace. It may be repeated. A comma is part of a value. decrypt needs the
// context that genkey, genkeypair or kms:Encrypt had. The context is not secret:
// CloudTrail shows it. Text that is not UTF-8, half of a surrogate pair in JSON and
// U+FFFD are refused, because KMS would see different contexts as one.
//
// # Credentials
//
// The first source that is given counts:
//
//   - --aws-access-key-id, --aws-secret-access-key and, for a role,
//     --aws-session-token. Every process in the enclave can read a command line in
//     /proc.
//   - --imds-port or --imds, for the credentials of the parent instance's role. It
//     names a port on which the parent forwards to its metadata service, as
//     vsock-proxy 8002 169.254.169.254 80 does if the allowlist has that address.
//     Only IMDSv2 is used.
//   - AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the
//     environment, which only processes of the same user can read. Python passes it
//     as env of subprocess.run.
//
// Flags come before the environment, so a variable left there by an image or a shell
// does not replace them. If the role's credentials are not available, that is an
// error, and the environment is not tried.
// [github.com/keyvouch/keyvouch/kmsclient.LoadConfig] tries the environment first.
//
// kmstool reads no configuration files and no other variables of the AWS SDKs. The
// parent may know the credentials: the key policy's conditions on the image protect
// the key.
//
// # Region and endpoint
//
// The region is the first of --region, the region in --key-id's ARN, AWS_REGION and
// AWS_DEFAULT_REGION that is given. Otherwise it is us-east-1, as in
// kmstool_enclave_cli, with a warning. The metadata service is not asked, because the
// parent controls it.
//
// KMS is reached through the parent's proxy at port 8000 of vsock context 3.
// --proxy-port sets another port, and --proxy any other place. TLS ends in this
// process and is verified with KMS's host name and Amazon's roots, so the proxy needs
// no trust.
//
// --endpoint sets another of KMS's names, such as that of a FIPS or VPC endpoint. A
// name that is not KMS's is refused unless --endpoint-host repeats it, so the endpoint
// may come from an untrusted configuration. Whoever holds a certificate for such a
// name can forge responses. --root-cas replaces Amazon's roots with those in a file.
// It is for the isolated partitions of AWS, whose endpoints Amazon's public roots do
// not certify.
//
// # What differs from kmstool_enclave_cli
//
//   - --aws-session-token may be missing or empty. So may --encryption-algorithm
//     beside --key-id, for a symmetric key.
//   - Errors repeat what KMS said. Exit codes differ, see below. Help goes to the
//     standard output and exits with 0.
//   - A flag that the command does not have is an error. Only the flags that genkey
//     and genrandom of kmstool_enclave_cli ignore are ignored, with a warning.
//   - A response from a key other than --key-id is refused.
//   - Temporary failures, such as throttling, are retried within --timeout, each time
//     with a new attestation document.
//
// Like kmstool_enclave_cli, it adds randomness from the NSM to the kernel's pool
// before it makes a key. Some kernels do not do so themselves.
//
// # Exit codes
//
//   - 0: the output is printed.
//   - 1: KMS refused, or something failed. Only an error is printed.
//   - 2: kmstool was called wrongly, or a file that a flag names is wrong. Nothing
//     was sent to KMS.
//
// A call takes at most --timeout, by default one minute. SIGINT and SIGTERM end it
// early, with 1.
package main
