package attestation

import "github.com/keyvouch/keyvouch/attestation/pcr"

// PCRSize is the size of a PCR value in bytes, that of SHA-384.
const PCRSize = pcr.Size

// PCR is the value of a platform configuration register, 48 bytes. It is the type
// [pcr.Value], which has its methods.
type PCR = pcr.Value

// ParsePCR reads a PCR from 96 hexadecimal digits, upper or lower case, as
// nitro-cli prints it. The error is an [*Error] with [ReasonInvalidPolicy].
func ParsePCR(s string) (PCR, error) {
	v, err := pcr.Parse(s)
	if err != nil {
		return PCR{}, &Error{Reason: ReasonInvalidPolicy, Err: err}
	}
	return v, nil
}
