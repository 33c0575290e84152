package kmsclient

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// response points to the fields of an output that matter here.
type response struct {
	plaintext, envelope *[]byte
	keyID               *string
	// missing is a field that the caller has to keep and that is not there, or "". A
	// data key without its ciphertext is lost with the enclave, and so is what it
	// encrypted.
	missing string
}

func newResponse(output any) (response, bool) {
	switch out := output.(type) {
	case *kms.DecryptOutput:
		return response{&out.Plaintext, &out.CiphertextForRecipient, out.KeyId, ""}, true
	case *kms.GenerateDataKeyOutput:
		return response{&out.Plaintext, &out.CiphertextForRecipient, out.KeyId,
			firstEmpty(field{"CiphertextBlob", out.CiphertextBlob})}, true
	case *kms.GenerateDataKeyPairOutput:
		return response{&out.PrivateKeyPlaintext, &out.CiphertextForRecipient, out.KeyId,
			firstEmpty(field{"PrivateKeyCiphertextBlob", out.PrivateKeyCiphertextBlob}, field{"PublicKey", out.PublicKey})}, true
	case *kms.GenerateRandomOutput:
		return response{&out.Plaintext, &out.CiphertextForRecipient, nil, ""}, true
	case *kms.DeriveSharedSecretOutput:
		return response{&out.SharedSecret, &out.CiphertextForRecipient, out.KeyId, ""}, true
	}
	return response{}, false
}

type field struct {
	name  string
	value []byte
}

func firstEmpty(fields ...field) (name string) {
	for _, f := range fields {
		if len(f.value) == 0 {
			return f.name
		}
	}
	return ""
}

// judge checks a response, opens its envelope and fills in the plaintext.
func (a *attested) judge(c *call, output any) error {
	got, ok := newResponse(output)
	if !ok {
		return &Error{Reason: ReasonNoEnvelope, Detail: fmt.Sprintf("the response is a %T", output)}
	}
	// The API reference: "the Plaintext field is null or empty".
	if len(*got.plaintext) != 0 {
		return &Error{Reason: ReasonPlaintextInResponse,
			Detail: "the response holds a plaintext in the clear, which KMS never sends to a recipient: someone else responded"}
	}
	if len(*got.envelope) == 0 {
		return &Error{Reason: ReasonNoEnvelope, Field: "CiphertextForRecipient",
			Detail: "the response has none: the request's recipient was dropped on the way, or someone else responded"}
	}
	if c.keyID != nil {
		if err := a.pins.checkResponse(c.requestedKey(), aws.ToString(got.keyID)); err != nil {
			return err
		}
	}
	if got.missing != "" {
		return &Error{Reason: ReasonIncompleteResponse, Field: got.missing,
			Detail: "the response has none, though KMS always sends it: without what is to be stored, the key is lost with the enclave"}
	}
	plaintext, err := c.key.Open(*got.envelope)
	if err != nil {
		return &Error{Reason: ReasonEnvelope, Field: "CiphertextForRecipient", Detail: "the response is not for this client", Err: err}
	}
	if n := len(plaintext); n == 0 || c.sized && n != c.size {
		clear(plaintext)
		return &Error{Reason: ReasonPlaintextSize, Detail: fmt.Sprintf("the response's plaintext has %d bytes, %s", n, c.sizeWanted())}
	}
	*got.plaintext, *got.envelope = plaintext, nil
	return nil
}

func (c *call) sizeWanted() string {
	switch {
	case c.size != 0:
		return fmt.Sprintf("the request asked for %d", c.size)
	case c.sized:
		return "and the request asked for no size that the client knows"
	}
	return "must have some"
}
