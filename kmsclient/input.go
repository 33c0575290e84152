package kmsclient

import (
	"context"

	"github.com/aws/smithy-go/middleware"
)

const serializerID = "OperationSerializer"

// finalInput takes the place of the SDK's serializer and has it within, so that
// nothing is between them: the input that is checked and attested here is the
// one that is sent, whatever middlewares made of the caller's.
type finalInput struct{ *attested }

func (finalInput) ID() string { return serializerID }

func (a finalInput) HandleSerialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (
	middleware.SerializeOutput, middleware.Metadata, error,
) {
	c, err := a.prepare(in.Parameters)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, named(a.op, err)
	}
	if c != nil {
		a.call, in.Parameters = c, c.input
	}
	return a.serializer.HandleSerialize(ctx, in, next)
}

// prepare checks an input of any operation, and copies it if the operation is
// one of the five.
func (a *attested) prepare(input any) (*call, error) {
	c := newCall(input)
	if c == nil {
		return nil, a.pins.checkInput(a.op, input)
	}
	if *c.recipient != nil {
		return nil, &Error{Reason: ReasonRecipientSet,
			Detail: "the input has a Recipient: leave it nil, the client sets one with a fresh document for a key of its own"}
	}
	c.key = a.keys.current()
	return c, a.nameKey(c)
}

// nameKey checks the request's key, and sends the pinned one where KMS would
// otherwise take whatever key the ciphertext names.
func (a *attested) nameKey(c *call) error {
	if c.keyID == nil {
		return nil
	}
	if *c.keyID != nil {
		return a.pins.checkRequest(**c.keyID)
	}
	if only, ok := a.pins.only(); ok && c.keyOptional {
		*c.keyID = &only
	}
	return nil
}
