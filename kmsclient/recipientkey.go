package kmsclient

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
	"github.com/keyvouch/keyvouch/nsm"
)

// recipientKey is an RSA key that responses are encrypted to. It never changes.
type recipientKey struct {
	*cms.Recipient
	made time.Time
}

func newRecipientKey(bits int) (*recipientKey, error) {
	key, err := rsakey.Generate(bits)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "the RSA key cannot be made", Err: err}
	}
	recipient, err := cms.NewRecipient(key)
	if err != nil {
		return nil, &Error{Reason: ReasonRecipientKey, Detail: "the RSA key cannot be used", Err: err}
	}
	return &recipientKey{Recipient: recipient}, nil
}

// document makes a fresh attestation document for the key. KMS verifies it.
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

// rotation holds the key for the next call, and replaces it when it has grown old. It
// is safe for concurrent use.
type rotation struct {
	every time.Duration // 0: never
	clock func() time.Time
	make  func() (*recipientKey, error)

	mutex  sync.Mutex
	key    *recipientKey
	making bool // a goroutine makes the next key
}

func newRotation(opts Options, clock func() time.Time) (*rotation, error) {
	bits := opts.KeyBits
	switch bits {
	case 0:
		bits = defaultKeyBits
	case 2048, 3072, 4096:
	default:
		return nil, &Error{Reason: ReasonInvalidOptions, Field: "Options.KeyBits", Detail: fmt.Sprintf("is %d, must be 2048, 3072 or 4096", bits)}
	}
	if opts.RotateEvery != 0 && opts.RotateEvery < minRotateEvery {
		return nil, &Error{Reason: ReasonInvalidOptions, Field: "Options.RotateEvery",
			Detail: fmt.Sprintf("is %v, must be 0 for never or at least %v, such as 24*time.Hour", opts.RotateEvery, minRotateEvery)}
	}
	r := &rotation{every: opts.RotateEvery, clock: clock, make: func() (*recipientKey, error) { return newRecipientKey(bits) }}
	key, err := r.make()
	if err != nil {
		return nil, err
	}
	key.made = clock()
	r.key = key
	return r, nil
}

// current returns the key for a call, which keeps it through all its attempts. It does
// not wait: a call that finds the key old starts the making of the next one.
func (r *rotation) current() *recipientKey {
	if r.every == 0 {
		return r.key
	}
	now := r.clock()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !r.making && now.Sub(r.key.made) >= r.every {
		r.making = true
		go r.replace()
	}
	return r.key
}

// replace ends by itself as soon as it has a key, so that there is nothing to stop. If
// it fails, the next call tries again.
func (r *rotation) replace() {
	key, err := r.make()
	if err == nil {
		key.made = r.clock()
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.making = false
	if err == nil {
		r.key = key
	}
}
