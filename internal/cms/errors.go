package cms

import (
	"fmt"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason names the rule that an envelope broke. The strings are stable.
type Reason string

// Error returns the word itself, so that errors.Is(err, ReasonDecrypt) asks whether an
// [Error] has that Reason.
func (r Reason) Error() string { return string(r) }

// Reasons about the encoding.
const (
	// ReasonSize: the envelope is empty or larger than MaxEnvelopeSize.
	ReasonSize Reason = "size"
	// ReasonTruncated: the envelope ends in the middle of an element.
	ReasonTruncated Reason = "truncated"
	// ReasonLength: a length that reaches beyond the element around it, that
	// has more than four bytes, is not in its shortest form, or is indefinite
	// where that is not accepted.
	ReasonLength Reason = "length"
	// ReasonTag: an element has another tag than the one that must be there.
	ReasonTag Reason = "tag"
	// ReasonEndOfContents: an element of indefinite length is not closed by the
	// two end-of-contents bytes where it must be.
	ReasonEndOfContents Reason = "end-of-contents"
	// ReasonTrailingBytes: bytes follow a complete element.
	ReasonTrailingBytes Reason = "trailing-bytes"
)

// Reasons about what the envelope says.
const (
	// ReasonContentType: not an EnvelopedData, or one that holds other content
	// than data.
	ReasonContentType Reason = "content-type"
	// ReasonVersion: EnvelopedData or recipient is not of version 2.
	ReasonVersion Reason = "version"
	// ReasonRecipients: no recipient, or more than one.
	ReasonRecipients Reason = "recipients"
	// ReasonRecipientID: the recipient is not named by a subjectKeyIdentifier
	// of 32 bytes.
	ReasonRecipientID Reason = "recipient-id"
	// ReasonOtherRecipient: the envelope is for another key.
	ReasonOtherRecipient Reason = "other-recipient"
	// ReasonKeyEncryption: the content-encryption key is not encrypted with
	// RSAES-OAEP, SHA-256, MGF1 with SHA-256 and no label.
	ReasonKeyEncryption Reason = "key-encryption"
	// ReasonEncryptedKeySize: the encrypted key is not as long as the modulus
	// of the recipient's key.
	ReasonEncryptedKeySize Reason = "encrypted-key-size"
	// ReasonContentEncryption: the content is not encrypted with AES-256-CBC.
	ReasonContentEncryption Reason = "content-encryption"
	// ReasonIV: the initialisation vector is not 16 bytes.
	ReasonIV Reason = "iv"
	// ReasonCiphertextSize: the content is not a positive multiple of 16 bytes,
	// or is larger than MaxCiphertextSize.
	ReasonCiphertextSize Reason = "ciphertext-size"
)

// Reasons about opening.
const (
	// ReasonKey: the private key is not a valid RSA key of 2048, 3072 or 4096
	// bits.
	ReasonKey Reason = "key"
	// ReasonDecrypt: the envelope is well formed and does not decrypt. Which
	// step failed is not told, so that nobody can learn from the answers.
	ReasonDecrypt Reason = "decrypt"
)

// Error is the type of every error of this package.
type Error struct {
	// Op is the function or method that failed, "NewRecipient" or "Open".
	Op string
	// Reason names the rule that was broken.
	Reason Reason
	// Field is empty: an envelope's elements have no names.
	Field string
	// Detail says what was found and what must be there. It never holds bytes
	// of keys or plaintexts.
	Detail string
	// Err is nil: no cause is told, so that nobody can learn from one.
	Err error
	// Offset is the byte of the envelope at which the fault was found; -1 when
	// the fault has no place.
	Offset int
}

// Error returns one line: "cms: Op: reason: at byte 12: detail".
func (e *Error) Error() string {
	detail := e.Detail
	if e.Offset >= 0 {
		detail = fmt.Sprintf("at byte %d: %s", e.Offset, detail)
	}
	return errtext.Join("cms", e.Op, string(e.Reason), e.Field, detail, e.Err)
}

// Unwrap returns nil.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// named puts the operation into an error that was made without knowing it.
func named(op string, err error) error {
	if e, ok := err.(*Error); ok && e.Op == "" {
		e.Op = op
	}
	return err
}

// errDecrypt is one value for all failures that depend on secrets: they must
// look the same from outside.
func errDecrypt() *Error {
	return &Error{Op: "Open", Reason: ReasonDecrypt, Offset: -1, Detail: "the envelope does not decrypt"}
}
