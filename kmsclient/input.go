package kmsclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
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
	if c == nil {
		return a.serializer.HandleSerialize(ctx, in, next)
	}
	a.call, in.Parameters = c, c.input
	if err := ctx.Err(); err != nil { // the attester would name itself as the cause
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	if err := a.attest(ctx); err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, named(a.op, err)
	}
	return a.serializer.HandleSerialize(ctx, in, serialized{next, c})
}

// serialized follows the SDK's serializer and notes what it made. It takes the hash
// that the signature covers, too: the SDK takes it later, of whatever is there then.
type serialized struct {
	middleware.SerializeHandler
	call *call
}

func (s serialized) HandleSerialize(ctx context.Context, in middleware.SerializeInput) (middleware.SerializeOutput, middleware.Metadata, error) {
	request, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.SerializeOutput{}, middleware.Metadata{}, notHTTP(in.Request)
	}
	ctx, err := hashed(ctx, request)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	s.call.body, s.call.bodySize = request.GetStream(), request.ContentLength
	return s.SerializeHandler.HandleSerialize(ctx, in)
}

func notHTTP(request any) error { return fmt.Errorf("kmsclient: not an HTTP request: %T", request) }

// hashed takes the hash of a request's body, for the signature to cover.
func hashed(ctx context.Context, request *smithyhttp.Request) (context.Context, error) {
	hash := sha256.New()
	if _, err := io.Copy(hash, request.GetStream()); err != nil {
		return nil, fmt.Errorf("kmsclient: can't hash the request: %w", err)
	}
	if err := request.RewindStream(); err != nil {
		return nil, fmt.Errorf("kmsclient: can't rewind the request: %w", err)
	}
	var sum [sha256.Size]byte
	return v4.SetPayloadHash(ctx, hex.EncodeToString(hash.Sum(sum[:0]))), nil
}

// isBodyOf reports whether a request still has the body that was serialised, and
// the whole of it ahead.
func (c *call) isBodyOf(request *smithyhttp.Request) bool {
	if c.body == nil || request.GetStream() != c.body {
		return false
	}
	size, ok, err := request.StreamLength()
	return err == nil && ok && size == c.bodySize
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
