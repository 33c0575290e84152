package cms

import (
	"crypto/aes"
	"crypto/sha256"
)

// Sizes in bytes.
const (
	// MaxEnvelopeSize is KMS's bound of CiphertextForRecipient.
	MaxEnvelopeSize = 6144
	// MaxPlaintextSize is KMS's bound of a plaintext.
	MaxPlaintextSize = 4096
	// MaxCiphertextSize is MaxPlaintextSize and its padding.
	MaxCiphertextSize = MaxPlaintextSize + aes.BlockSize

	keyIDSize = sha256.Size
	cekSize   = 32
)

// Object identifiers, as the bytes of their encoding.
const (
	oidData          = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01" // 1.2.840.113549.1.7.1, RFC 5652
	oidEnvelopedData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03" // 1.2.840.113549.1.7.3, RFC 5652
	oidRSAESOAEP     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07" // 1.2.840.113549.1.1.7, RFC 8017
	oidMGF1          = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08" // 1.2.840.113549.1.1.8, RFC 8017
	oidSHA256        = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1, RFC 5754
	oidAES256CBC     = "\x60\x86\x48\x01\x65\x03\x04\x01\x2a" // 2.16.840.1.101.3.4.1.42, RFC 3565
)

// envelope is what an envelope says. The slices are parts of the input, except
// for a ciphertext that came in several chunks.
type envelope struct {
	keyID        []byte // keyIDSize bytes
	encryptedKey []byte
	iv           []byte // aes.BlockSize bytes
	ciphertext   []byte // a positive multiple of aes.BlockSize bytes

	keyIDOffset, encryptedKeyOffset int // for errors
}

// parse reads the whole envelope, or fails.
func parse(data []byte) (envelope, error) {
	var v envelope
	if len(data) == 0 || len(data) > MaxEnvelopeSize {
		r := reader{}
		r.failf(-1, ReasonSize, "%d bytes, must be 1 to %d", len(data), MaxEnvelopeSize)
		return envelope{}, r.err
	}
	r := reader{data: data, end: len(data)}
	info := r.enter(tagSequence, anyLength, "ContentInfo")
	r.oid(oidEnvelopedData, ReasonContentType, "content type")
	content := r.enter(tagContext0Cons, anyLength, "content")
	enveloped := r.enter(tagSequence, anyLength, "EnvelopedData")
	r.integer(2, ReasonVersion, "EnvelopedData version")
	v.readRecipients(&r)
	v.readContent(&r)
	r.leave(enveloped, "EnvelopedData")
	r.leave(content, "content")
	r.leave(info, "ContentInfo")
	if r.err == nil && r.off != len(data) {
		r.failf(r.off, ReasonTrailingBytes, "%d bytes after the envelope", len(data)-r.off)
	}
	if r.err != nil {
		return envelope{}, r.err
	}
	return v, nil
}

func (v *envelope) readRecipients(r *reader) {
	start := r.off
	set := r.enter(tagSet, definite, "recipientInfos")
	if r.err == nil && !r.more(set) {
		r.fail(start, ReasonRecipients, "no recipient, must be one")
	}
	v.readRecipient(r)
	if r.more(set) {
		r.fail(r.off, ReasonRecipients, "more than one recipient")
	}
	r.leave(set, "recipientInfos")
}

func (v *envelope) readRecipient(r *reader) {
	if r.err == nil && !r.next(tagSequence) {
		r.fail(r.off, ReasonRecipients, "the recipient is not a KeyTransRecipientInfo")
	}
	info := r.enter(tagSequence, definite, "KeyTransRecipientInfo")
	r.integer(2, ReasonVersion, "KeyTransRecipientInfo version")

	v.keyIDOffset = r.off
	if r.next(tagSequence) {
		r.fail(r.off, ReasonRecipientID, "the recipient is named by issuer and serial number, must be by subjectKeyIdentifier")
	}
	v.keyID = r.primitive(tagContext0, "subjectKeyIdentifier")
	if r.err == nil && len(v.keyID) != keyIDSize {
		r.failf(v.keyIDOffset, ReasonRecipientID, "subjectKeyIdentifier has %d bytes, must have %d", len(v.keyID), keyIDSize)
	}
	readKeyEncryption(r)
	v.encryptedKeyOffset = r.off
	v.encryptedKey = r.primitive(tagOctetString, "encryptedKey")
	r.leave(info, "KeyTransRecipientInfo")
}

// readKeyEncryption accepts RSAES-OAEP with SHA-256, MGF1 with SHA-256 and no
// label. The parameters have defaults (RFC 4055, section 4.1), and those of the
// two hashes are SHA-1: what is left out here means SHA-1, not SHA-256.
func readKeyEncryption(r *reader) {
	start := r.off
	algorithm := r.enter(tagSequence, definite, "keyEncryptionAlgorithm")
	r.oid(oidRSAESOAEP, ReasonKeyEncryption, "key encryption algorithm")
	if r.err == nil && !r.more(algorithm) {
		r.fail(start, ReasonKeyEncryption, "RSAES-OAEP without parameters")
	}
	parameters := r.enter(tagSequence, definite, "RSAES-OAEP parameters")
	if r.err == nil && !r.next(tagContext0Cons) {
		r.fail(r.off, ReasonKeyEncryption, "no hash function, which means SHA-1; must be SHA-256 (ask KMS for RSAES_OAEP_SHA_256)")
	}
	hash := r.enter(tagContext0Cons, definite, "hash function")
	readSHA256(r, "hash function of RSAES-OAEP")
	r.leave(hash, "hash function")

	if r.err == nil && !r.next(tagContext1Cons) {
		r.fail(r.off, ReasonKeyEncryption, "no mask generation function, which means MGF1 with SHA-1; must be with SHA-256")
	}
	mask := r.enter(tagContext1Cons, definite, "mask generation function")
	mgf := r.enter(tagSequence, definite, "mask generation function")
	r.oid(oidMGF1, ReasonKeyEncryption, "mask generation function")
	readSHA256(r, "hash function of MGF1")
	r.leave(mgf, "mask generation function")
	r.leave(mask, "mask generation function")

	if r.next(tagContext2Cons) {
		r.fail(r.off, ReasonKeyEncryption, "a pSourceAlgorithm; KMS sends none")
	}
	r.leave(parameters, "RSAES-OAEP parameters")
	r.leave(algorithm, "keyEncryptionAlgorithm")
}

// readSHA256 reads the AlgorithmIdentifier of SHA-256, whose parameters are
// NULL (as KMS sends it) or absent: RFC 4055, section 2.1 demands both of a
// receiver.
func readSHA256(r *reader, what string) {
	algorithm := r.enter(tagSequence, definite, what)
	r.oid(oidSHA256, ReasonKeyEncryption, what)
	if r.more(algorithm) {
		start := r.off
		if null := r.primitive(tagNull, "NULL"); len(null) != 0 {
			r.failf(start, ReasonLength, "NULL of %d bytes", len(null))
		}
	}
	r.leave(algorithm, what)
}

func (v *envelope) readContent(r *reader) {
	info := r.enter(tagSequence, anyLength, "EncryptedContentInfo")
	r.oid(oidData, ReasonContentType, "encrypted content type")
	algorithm := r.enter(tagSequence, definite, "contentEncryptionAlgorithm")
	r.oid(oidAES256CBC, ReasonContentEncryption, "content encryption algorithm")
	start := r.off
	v.iv = r.primitive(tagOctetString, "initialisation vector")
	if r.err == nil && len(v.iv) != aes.BlockSize {
		r.failf(start, ReasonIV, "initialisation vector has %d bytes, must have %d", len(v.iv), aes.BlockSize)
	}
	r.leave(algorithm, "contentEncryptionAlgorithm")

	start = r.off
	if r.next(tagContext0) {
		v.ciphertext = r.primitive(tagContext0, "encryptedContent")
	} else {
		v.ciphertext = readChunks(r)
	}
	if n := len(v.ciphertext); r.err == nil && (n == 0 || n%aes.BlockSize != 0 || n > MaxCiphertextSize) {
		r.failf(start, ReasonCiphertextSize, "%d bytes of ciphertext, must be a multiple of %d from %d to %d",
			n, aes.BlockSize, aes.BlockSize, MaxCiphertextSize)
	}
	r.leave(info, "EncryptedContentInfo")
}

// readChunks reads a constructed encryptedContent. The chunks need no bound of
// their own: each takes three bytes or more of an input that has one.
func readChunks(r *reader) []byte {
	chunks := r.enter(tagContext0Cons, anyLength, "encryptedContent")
	var whole []byte
	for r.more(chunks) {
		start := r.off
		chunk := r.primitive(tagOctetString, "chunk of encryptedContent")
		switch {
		case r.err != nil:
			return nil
		case len(chunk) == 0:
			r.fail(start, ReasonLength, "empty chunk of encryptedContent")
		case whole == nil:
			// The usual case, one chunk, needs no copy. The capacity ends with
			// the chunk, so that a second one is never written into the input.
			whole = chunk
		default:
			whole = append(whole, chunk...)
		}
	}
	r.leave(chunks, "encryptedContent")
	return whole
}
