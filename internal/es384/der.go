package es384

import "bytes"

const (
	derInteger  = 0x02
	derSequence = 0x30

	// maxShort is the greatest length that DER writes in one byte. The sequence
	// has at most 2·(2+1+48) bytes.
	maxShort = 0x7f
)

// derSignature writes r ‖ s as the ECDSA-Sig-Value of RFC 3279, section 2.2.3.
func derSignature(signature []byte) []byte {
	der := make([]byte, 2, 2+2*(2+1+numberSize))
	for _, number := range [][]byte{signature[:numberSize], signature[numberSize:]} {
		number = bytes.TrimLeft(number, "\x00")
		sign := 0
		if len(number) == 0 || number[0] >= 0x80 {
			sign = 1 // a zero before it, or it would be negative; or zero itself
		}
		der = append(der, derInteger, byte(sign+len(number)))
		der = append(der, make([]byte, sign)...)
		der = append(der, number...)
	}
	der[0], der[1] = derSequence, byte(len(der)-2)
	return der
}

// parseDER splits an ECDSA-Sig-Value into r and s. It takes DER only: each
// signature in one form.
func parseDER(der []byte) (r, s []byte, ok bool) {
	if len(der) < 2 || der[0] != derSequence || der[1] > maxShort || int(der[1]) != len(der)-2 {
		return nil, nil, false
	}
	r, rest, ok := derPositive(der[2:])
	if !ok {
		return nil, nil, false
	}
	s, rest, ok = derPositive(rest)
	return r, s, ok && len(rest) == 0
}

// derPositive splits a positive integer off der.
func derPositive(der []byte) (number, rest []byte, ok bool) {
	if len(der) < 2 || der[0] != derInteger || der[1] == 0 || int(der[1]) > len(der)-2 {
		return nil, nil, false
	}
	size := int(der[1])
	number, rest = der[2:2+size], der[2+size:]
	negative := number[0] >= 0x80
	padded := number[0] == 0 && (len(number) == 1 || number[1] < 0x80)
	return number, rest, !negative && !padded
}
