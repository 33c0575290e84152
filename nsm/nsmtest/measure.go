package nsmtest

import (
	"crypto/sha512"

	"github.com/keyvouch/keyvouch/attestation/pcr"
)

// Measure returns the PCRs 0 to 2 that the software NSM has for an image: with
// a real image's rule, PCRn = SHA384(0^48 ‖ SHA384(content)), where content is
// image for PCR0, "PCR1:" ‖ image for PCR1 and "PCR2:" ‖ image for PCR2.
//
// An image here is any bytes, not an Enclave Image Format file: what stands for
// the kernel and the applications is made up, so that the three differ and each
// changes with the image.
func Measure(image []byte) (pcr0, pcr1, pcr2 pcr.Value) {
	measure := func(prefix string) pcr.Value {
		h := sha512.New384()
		h.Write([]byte(prefix))
		h.Write(image)
		return extend(pcr.Value{}, h.Sum(nil))
	}
	return measure(""), measure("PCR1:"), measure("PCR2:")
}

// extend returns the value of a PCR after data was extended into it:
// SHA384(PCR ‖ data).
func extend(old pcr.Value, data []byte) pcr.Value {
	h := sha512.New384()
	h.Write(old[:])
	h.Write(data)
	return pcr.Value(h.Sum(nil))
}
