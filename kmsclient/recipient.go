package kmsclient

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
	"github.com/keyvouch/keyvouch/nsm"
)

// MaxDocumentSize is the largest attestation document that KMS takes, in bytes
// (RecipientInfo in the KMS API reference).
const MaxDocumentSize = 262144

// recipientKey is an RSA key that answers are encrypted to. It never changes.
type recipientKey struct {
	*cms.Recipient
	made time.Time
}

func newRecipientKey(bits int) (*recipientKey, error) {
	key, err := rsakey.Generate(bits)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "can't make an RSA key", Err: err}
	}
	recipient, err := cms.NewRecipient(key)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "can't use the RSA key", Err: err}
	}
	return &recipientKey{Recipient: recipient}, nil
}

// document makes a fresh attestation document for the key. It isn't verified
// here: KMS does that.
func (k *recipientKey) document(ctx context.Context, attester Attester) (*types.RecipientInfo, error) {
	document, err := attester.Attest(ctx, nsm.AttestationRequest{PublicKey: k.PublicKey()})
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
