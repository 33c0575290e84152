package attestation

import (
	"crypto/x509"
	_ "embed"
	"fmt"
)

// awsNitroRoot is the certificate that AWS publishes as AWS_NitroEnclaves_Root-G1.
//
//go:embed roots/aws-nitro-enclaves-g1.der
var awsNitroRoot []byte

// AWSNitroRootSHA256 is the SHA-256 of the AWS Nitro root certificate's DER in
// hexadecimal, for comparison with other sources.
const AWSNitroRootSHA256 = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

// AWSNitroRoot returns the root of AWS's commercial partition, which signs for
// Nitro Enclaves and NitroTPMs alike: CN=aws.nitro-enclaves, P-384, valid from
// 2019-10-28 to 2049-10-28. It is what a Policy without Roots trusts; use it
// to trust another root beside it. Each call returns a new value.
func AWSNitroRoot() *x509.Certificate {
	root, err := x509.ParseCertificate(awsNitroRoot)
	if err != nil {
		// The bytes are compiled in and a test parses them.
		panic(fmt.Sprintf("attestation: the embedded AWS Nitro root: %v", err))
	}
	return root
}
