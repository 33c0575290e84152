package attestation

import (
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"time"
)

// Expect is what the caller demands of one document. [Verifier.Verify] refuses its
// zero value: set Nonce or UnsafeAnyNonce.
type Expect struct {
	// Nonce is the value that the caller sent with its request, at most
	// MaxFieldSize bytes. Use at least 16 random bytes, once, and keep them: a
	// nonce read from the document or received from the enclave proves nothing.
	Nonce []byte
	// UnsafeAnyNonce accepts any nonce or none. A document can then be replayed
	// until it is older than the policy's MaxAge. Use it where something else in
	// the document is bound to this exchange, such as a public key whose private
	// half the peer proves to hold. It excludes Nonce.
	UnsafeAnyNonce bool
	// UserData and PublicKey are compared byte for byte. An empty value demands an
	// empty or absent field. A nil value is not compared: the caller judges the
	// field of the Document.
	UserData, PublicKey []byte
	// At replaces the clock's time, without any skew, to audit a document of the
	// past. Certificates that have expired since are accepted, and so are keys
	// that have leaked since. Zero means the clock's time.
	At time.Time
}

// validate reports an expectation that cannot be meant.
func (e *Expect) validate() error {
	switch {
	case e.Nonce == nil && !e.UnsafeAnyNonce:
		return fail(ReasonInvalidExpectation, "Nonce", "is nil: give the nonce you sent, or set UnsafeAnyNonce if something else ties the document to this exchange")
	case e.Nonce != nil && e.UnsafeAnyNonce:
		return fail(ReasonInvalidExpectation, "UnsafeAnyNonce", "is set beside Nonce; choose one")
	case e.Nonce != nil && len(e.Nonce) == 0:
		return fail(ReasonInvalidExpectation, "Nonce", "is empty, which any document without a nonce would match")
	}
	for _, f := range []struct {
		name  string
		value []byte
	}{{"Nonce", e.Nonce}, {"UserData", e.UserData}, {"PublicKey", e.PublicKey}} {
		if len(f.value) > MaxFieldSize {
			return fail(ReasonInvalidExpectation, f.name, "is %d bytes; a document holds at most %d", len(f.value), MaxFieldSize)
		}
	}
	return nil
}

// judge compares the three fields that the enclave's program fills.
func (e *Expect) judge(c *Claims) error {
	for _, f := range []struct {
		reason    Reason
		field     string
		got, want []byte
	}{
		{ReasonNonce, fieldNonce, c.Nonce, e.Nonce},
		{ReasonUserData, fieldUserData, c.UserData, e.UserData},
		{ReasonPublicKey, fieldPublicKey, c.PublicKey, e.PublicKey},
	} {
		// A nonce or user data may be derived from a secret that the two
		// sides share, so the time taken tells nothing of the value.
		if f.want == nil || subtle.ConstantTimeCompare(f.got, f.want) == 1 {
			continue
		}
		if len(f.got) == 0 {
			return fail(f.reason, f.field, "is absent; %d bytes are expected", len(f.want))
		}
		return fail(f.reason, f.field, "is not the expected value (%d bytes in the document, %d expected)", len(f.got), len(f.want))
	}
	return nil
}

// BindingSize is the size of what Binding returns, in bytes.
const BindingSize = sha512.Size384

// Binding hashes several values into one for a document's user data, so that the
// document vouches for all of them. The enclave fills the request's UserData with it,
// the relying party Expect.UserData, both from the same values.
//
// Give each protocol its own purpose. Each value is hashed after its length, so that
// bytes cannot move from one value to the next and no list is a prefix of another:
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
