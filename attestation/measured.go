package attestation

import (
	"crypto/sha512"
	"crypto/x509"
)

// The PCRs of an enclave, by what is measured into them (AWS Nitro Enclaves
// user guide, "Cryptographic attestation").
const (
	PCRImage       = 0 // the enclave image: kernel, command line, ram disks
	PCRKernel      = 1 // kernel, command line and first ram disk
	PCRApplication = 2 // the other ram disks
	PCRRole        = 3 // the IAM role of the parent instance; see RolePCR
	PCRInstance    = 4 // the parent instance; see InstancePCR
	PCRSigner      = 8 // the certificate that signed the image; see SignerPCR
)

// RolePCR is the value of PCR3 in enclaves whose parent instance has the IAM
// role of this ARN, arn:aws:iam::<account>:role/<name>. PCR3 is zero if the
// parent has no role.
func RolePCR(arn string) PCR { return extended([]byte(arn)) }

// InstancePCR is the value of PCR4 in enclaves of the instance with this ID,
// "i-" and 17 hexadecimal digits.
func InstancePCR(id string) PCR { return extended([]byte(id)) }

// SignerPCR is the value of PCR8 in enclaves whose image was signed with the
// key of this certificate. PCR8 is zero if the image isn't signed.
func SignerPCR(certificate *x509.Certificate) PCR {
	digest := sha512.Sum384(certificate.Raw)
	return extended(digest[:])
}

// extended is the value of a register after one extension: the hash over its
// zero value and the data.
func extended(data []byte) PCR {
	h := sha512.New384()
	h.Write(make([]byte, PCRSize))
	h.Write(data)
	return PCR(h.Sum(nil))
}
