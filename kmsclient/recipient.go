package kmsclient

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/nsm"
)

// MaxDocumentSize is the largest attestation document that KMS takes, in bytes
// (RecipientInfo in the KMS API reference).
const MaxDocumentSize = 262144

const defaultKeyBits = 2048

// recipient is the RSA key that answers are encrypted to, and what attests it.
// It never changes, so that it can be used concurrently.
type recipient struct {
	attester Attester
	key      *rsa.PrivateKey
	spki     []byte // the public key, as the document has it
}

func newRecipient(attester Attester, bits int) (*recipient, error) {
	switch bits {
	case 0:
		bits = defaultKeyBits
	case 2048, 3072, 4096:
	default:
		return nil, &Error{Reason: ReasonInvalidOptions, Detail: fmt.Sprintf("KeyBits is %d, must be 2048, 3072 or 4096", bits)}
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "can't make an RSA key", Err: err}
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "can't encode the RSA key", Err: err}
	}
	return &recipient{attester: attester, key: key, spki: spki}, nil
}

// info makes a fresh document. The document isn't verified here: KMS does that.
func (r *recipient) info(ctx context.Context) (*types.RecipientInfo, error) {
	// A copy, so that an attester that writes into it harms only itself.
	document, err := r.attester.Attest(ctx, nsm.AttestationRequest{PublicKey: bytes.Clone(r.spki)})
	if err != nil {
		return nil, &Error{Reason: ReasonAttestation, Detail: "no attestation document", Err: err}
	}
	if len(document) == 0 || len(document) > MaxDocumentSize {
		return nil, &Error{Reason: ReasonDocumentSize,
			Detail: fmt.Sprintf("the attester's document has %d bytes, must have 1 to %d", len(document), MaxDocumentSize)}
	}
	return &types.RecipientInfo{
		AttestationDocument:    document,
		KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
	}, nil
}

func (r *recipient) open(envelope []byte) ([]byte, error) {
	return cms.Open(envelope, r.key)
}
