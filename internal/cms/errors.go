package cms

import "fmt"

// Reason names the rule that an envelope broke. The strings are stable.
type Reason string

// Reasons about the encoding.
const (
	// ReasonSize: the envelope is empty or larger than MaxEnvelopeSize.
	ReasonSize Reason = "size"
	// ReasonTruncated: the envelope ends in the middle of an element.
	ReasonTruncated Reason = "truncated"
	// ReasonLength: a length that reaches beyond the element around it, that
	// has more than four bytes, isn't in its shortest form, or is indefinite
	// where that isn't accepted.
	ReasonLength Reason = "length"
	// ReasonTag: an element has another tag than the one that must be there.
	ReasonTag Reason = "tag"
	// ReasonEndOfContents: an element of indefinite length isn't closed by the
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
	// ReasonVersion: EnvelopedData or recipient isn't of version 2.
	ReasonVersion Reason = "version"
	// ReasonRecipients: no recipient, or more than one.
	ReasonRecipients Reason = "recipients"
	// ReasonRecipientID: the recipient isn't named by a subjectKeyIdentifier
	// of 32 bytes.
	ReasonRecipientID Reason = "recipient-id"
	// ReasonOtherRecipient: the envelope is for another key.
	ReasonOtherRecipient Reason = "other-recipient"
	// ReasonKeyEncryption: the content-encryption key isn't encrypted with
	// RSAES-OAEP, SHA-256, MGF1 with SHA-256 and no label.
	ReasonKeyEncryption Reason = "key-encryption"
	// ReasonEncryptedKeySize: the encrypted key isn't as long as the modulus
	// of the recipient's key.
	ReasonEncryptedKeySize Reason = "encrypted-key-size"
	// ReasonContentEncryption: the content isn't encrypted with AES-256-CBC.
	ReasonContentEncryption Reason = "content-encryption"
	// ReasonIV: the initialisation vector isn't 16 bytes.
	ReasonIV Reason = "iv"
	// ReasonCiphertextSize: the content isn't a positive multiple of 16 bytes,
	// or is larger than MaxCiphertextSize.
	ReasonCiphertextSize Reason = "ciphertext-size"
)

// Reasons about opening.
const (
	// ReasonKey: the private key isn't a valid RSA key of 2048, 3072 or 4096
	// bits.
	ReasonKey Reason = "key"
	// ReasonDecrypt: the envelope is well formed and doesn't decrypt. Which
	// step failed is not told, so that nobody can learn from the answers.
	ReasonDecrypt Reason = "decrypt"
)

// Error is the type of every error of this package.
type Error struct {
	Reason Reason
	// Offset is the byte of the envelope at which the fault was found; -1 when
	// the fault has no place.
	Offset int
	// Detail says what was found and what must be there. It never holds bytes
	// of keys or plaintexts.
	Detail string
}

// Error returns the reason, the place and the detail in one line.
func (e *Error) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("cms: %s: %s", e.Reason, e.Detail)
	}
	return fmt.Sprintf("cms: %s at byte %d: %s", e.Reason, e.Offset, e.Detail)
}

// errDecrypt is one value for all failures that depend on secrets: they must
// look the same from outside.
func errDecrypt() *Error {
	return &Error{Reason: ReasonDecrypt, Offset: -1, Detail: "the envelope doesn't decrypt"}
}
