package attestation

import (
	"crypto/sha512"
	"encoding/binary"
)

// BindingSize is the size of what Binding returns, in bytes.
const BindingSize = sha512.Size384

// Binding hashes several values into one for a document's user data, so that
// the document vouches for all of them: a protocol's transcript, a certificate,
// a request. Enclave and relying party call it with the same values, the one to
// fill the request's UserData, the other to fill Expect.UserData.
//
// purpose keeps apart what an enclave signs in different protocols; give each
// its own. The values are hashed with their lengths before them, so that bytes
// can't move from one value to the next and no list is the beginning of another:
//
//	SHA-384( n ‖ len(purpose) ‖ purpose ‖ len(value 1) ‖ value 1 ‖ … ‖ value n )
//
// with n and the lengths as 8 bytes, big-endian.
func Binding(purpose string, values ...[]byte) []byte {
	h := sha512.New384()
	number := func(n int) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	number(len(values))
	number(len(purpose))
	h.Write([]byte(purpose))
	for _, v := range values {
		number(len(v))
		h.Write(v)
	}
	return h.Sum(nil)
}
