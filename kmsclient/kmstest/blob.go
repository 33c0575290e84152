package kmstest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
)

// A ciphertext blob is, in this server's own form,
//
//	magic (8) ‖ key ID (16) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)
//
// with magic, key ID and encryption context as additional data. Like KMS's
// blobs it names its key, so that Decrypt finds it, and tells nothing else.
const (
	blobMagic       = "kmstest\x01"
	blobKeyIDLength = 16
	blobNonceLength = 12
	blobTagLength   = 16
	blobHeader      = len(blobMagic) + blobKeyIDLength
	blobOverhead    = blobHeader + blobNonceLength + blobTagLength
)

// seal encrypts plaintext, at most maxBlobLength-blobOverhead bytes, under k.
func (k *key) seal(plaintext []byte, context map[string]string) []byte {
	blob := make([]byte, 0, blobOverhead+len(plaintext))
	blob = append(blob, blobMagic...)
	id, _ := hex.DecodeString(strings.ReplaceAll(k.id, "-", ""))
	blob = append(blob, id...)
	nonce := make([]byte, blobNonceLength)
	rand.Read(nonce)
	data := additionalData(blob, context)
	return k.aead.Seal(append(blob, nonce...), nonce, plaintext, data)
}

// open decrypts a blob that parseBlob has found to be of this key.
func (k *key) open(blob []byte, context map[string]string) ([]byte, *apiError) {
	nonce := blob[blobHeader : blobHeader+blobNonceLength]
	plaintext, err := k.aead.Open(nil, nonce, blob[blobHeader+blobNonceLength:], additionalData(blob[:blobHeader], context))
	if err != nil {
		return nil, invalidCiphertext()
	}
	return plaintext, nil
}

// parseBlob reads which key a blob is of. Nothing is authenticated yet.
func parseBlob(blob []byte) (keyID string, ok bool) {
	if len(blob) < blobOverhead || len(blob) > maxBlobLength || string(blob[:len(blobMagic)]) != blobMagic {
		return "", false
	}
	id := hex.EncodeToString(blob[len(blobMagic):blobHeader])
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], true
}

// additionalData encodes the header and the encryption context so that no two
// contexts give the same bytes: sorted, each part after its length.
func additionalData(header []byte, context map[string]string) []byte {
	data := slices.Clone(header)
	for _, name := range slices.Sorted(maps.Keys(context)) {
		for _, part := range []string{name, context[name]} {
			data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
			data = append(data, part...)
		}
	}
	return data
}
