package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"fmt"
)

// Open returns the plaintext of an envelope, at most MaxPlaintextSize bytes,
// possibly none. The key must be of 2048, 3072 or 4096 bits, and the envelope
// must name it. The plaintext is the caller's alone; the envelope is only read.
//
// Errors are of type *Error, and no plaintext comes with one. Whatever fails
// from the first use of the private key on gives one and the same error,
// ReasonDecrypt.
//
// Open is safe for concurrent use. A [Recipient] saves a caller with many
// envelopes what is the same for all.
func Open(data []byte, key *rsa.PrivateKey) ([]byte, error) {
	r, err := NewRecipient(key)
	if err != nil {
		return nil, err
	}
	return r.Open(data)
}

// Recipient is a key that envelopes are for. It is safe for concurrent use.
type Recipient struct {
	key  *rsa.PrivateKey
	spki []byte
	id   [sha256.Size]byte // as envelopes name the key
}

// NewRecipient returns the recipient with that key, which must be of 2048, 3072 or
// 4096 bits and is not to be changed. Errors are of type *Error, ReasonKey.
func NewRecipient(key *rsa.PrivateKey) (*Recipient, error) {
	if err := checkKey(key); err != nil {
		return nil, named("NewRecipient", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, &Error{Op: "NewRecipient", Reason: ReasonKey, Offset: -1, Detail: "the public key cannot be encoded"}
	}
	return &Recipient{key: key, spki: spki, id: sha256.Sum256(spki)}, nil
}

// PublicKey returns the public key, as an attestation document has it: the DER
// of its SubjectPublicKeyInfo (RFC 5280, section 4.1). The slice is a copy.
func (r *Recipient) PublicKey() []byte { return bytes.Clone(r.spki) }

// Open is as the function Open, with the recipient's key.
func (r *Recipient) Open(data []byte) ([]byte, error) {
	plaintext, err := r.open(data)
	if err != nil {
		return nil, named("Open", err)
	}
	return plaintext, nil
}

func (r *Recipient) open(data []byte) ([]byte, error) {
	v, err := parse(data)
	if err != nil {
		return nil, err
	}
	if string(v.keyID) != string(r.id[:]) {
		return nil, &Error{Reason: ReasonOtherRecipient, Offset: v.keyIDOffset,
			Detail: fmt.Sprintf("the envelope is for the key %x, this key is %x", v.keyID, r.id)}
	}
	if len(v.encryptedKey) != r.key.Size() {
		return nil, &Error{Reason: ReasonEncryptedKeySize, Offset: v.encryptedKeyOffset,
			Detail: fmt.Sprintf("encrypted key has %d bytes, must have %d", len(v.encryptedKey), r.key.Size())}
	}
	return decrypt(v, r.key)
}

func checkKey(key *rsa.PrivateKey) error {
	if key == nil || key.N == nil {
		return &Error{Reason: ReasonKey, Offset: -1, Detail: "no private key"}
	}
	switch bits := key.N.BitLen(); bits {
	case 2048, 3072, 4096:
		return nil
	default:
		return &Error{Reason: ReasonKey, Offset: -1, Detail: fmt.Sprintf("an RSA key of %d bits, must have 2048, 3072 or 4096", bits)}
	}
}

func decrypt(v envelope, key *rsa.PrivateKey) ([]byte, error) {
	cek, err := rsa.DecryptOAEP(sha256.New(), nil, key, v.encryptedKey, nil)
	defer clear(cek)
	if err != nil || len(cek) != cekSize {
		return nil, errDecrypt()
	}
	block, err := aes.NewCipher(cek)
	if err != nil {
		return nil, errDecrypt()
	}
	plaintext := make([]byte, len(v.ciphertext))
	cipher.NewCBCDecrypter(block, v.iv).CryptBlocks(plaintext, v.ciphertext)
	size, ok := unpad(plaintext)
	if !ok || size > MaxPlaintextSize {
		clear(plaintext)
		return nil, errDecrypt()
	}
	// The capacity ends with the plaintext: an append by the caller moves it
	// rather than growing over the padding.
	return plaintext[:size:size], nil
}

// unpad returns the size of the plaintext without its PKCS #7 padding (RFC
// 5652 section 6.3). It takes the same time whatever the bytes are.
func unpad(padded []byte) (size int, ok bool) {
	last := padded[len(padded)-aes.BlockSize:]
	pad := last[aes.BlockSize-1]
	good := subtle.ConstantTimeLessOrEq(1, int(pad)) & subtle.ConstantTimeLessOrEq(int(pad), aes.BlockSize)
	for i, b := range last {
		inPadding := subtle.ConstantTimeLessOrEq(aes.BlockSize-i, int(pad))
		good &= subtle.ConstantTimeByteEq(b, pad) | (1 - inPadding)
	}
	return len(padded) - int(pad), good == 1
}
