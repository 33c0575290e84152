package interop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// The envelope as encoding/asn1 writes it (RFC 5652 section 6).
type (
	contentInfo struct {
		Type    asn1.ObjectIdentifier
		Content envelopedData `asn1:"explicit,tag:0"`
	}
	envelopedData struct {
		Version    int
		Recipients []keyTransRecipientInfo `asn1:"set"`
		Content    encryptedContentInfo
	}
	keyTransRecipientInfo struct {
		Version      int
		KeyID        []byte `asn1:"tag:0"`
		Algorithm    pkix.AlgorithmIdentifier
		EncryptedKey []byte
	}
	encryptedContentInfo struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   []byte `asn1:"tag:0"`
	}
	oaepParameters struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}
)

var (
	oidData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnveloped = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidOAEP      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidAES256CBC = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// seal makes the envelope in which KMS would send the plaintext, under a
// content-encryption key whose encryption is given.
func seal(t *testing.T, recipient *rsa.PublicKey, contentKey, encryptedKey, plaintext []byte) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(recipient)
	if err != nil {
		t.Fatal(err)
	}
	keyID := sha256.Sum256(spki)
	iv := bytes.Repeat([]byte{7}, aes.BlockSize)
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	content := append(bytes.Clone(plaintext), bytes.Repeat([]byte{byte(pad)}, pad)...)
	block, err := aes.NewCipher(contentKey)
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)

	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	return marshal(t, contentInfo{oidEnveloped, envelopedData{
		Version: 2,
		Recipients: []keyTransRecipientInfo{{
			Version: 2,
			KeyID:   keyID[:],
			Algorithm: parameterised(t, oidOAEP, oaepParameters{
				Hash: sha,
				MGF:  parameterised(t, oidMGF1, sha),
			}),
			EncryptedKey: encryptedKey,
		}},
		Content: encryptedContentInfo{oidData, parameterised(t, oidAES256CBC, iv), content},
	}})
}

func parameterised(t *testing.T, algorithm asn1.ObjectIdentifier, parameters any) pkix.AlgorithmIdentifier {
	t.Helper()
	return pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.RawValue{FullBytes: marshal(t, parameters)}}
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
