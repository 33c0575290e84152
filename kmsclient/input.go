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
	hash, err := hashOf(request)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	if s.call.made, err = madeOf(request, hash); err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	in.Parameters = newCall(s.call.input).input // what others make of it now counts for nothing
	return s.SerializeHandler.HandleSerialize(v4.SetPayloadHash(ctx, hash), in)
}

func notHTTP(request any) error { return fmt.Errorf("kmsclient: not an HTTP request: %T", request) }

// hashOf takes the hash of a request's body, for the signature to cover.
func hashOf(request *smithyhttp.Request) (string, error) {
	hash := sha256.New()
	if err := readBody(request, hash); err != nil {
		return "", err
	}
	var sum [sha256.Size]byte
	return hex.EncodeToString(hash.Sum(sum[:0])), nil
}

// readBody leaves a request as it was.
func readBody(request *smithyhttp.Request, to io.Writer) error {
	stream := request.GetStream()
	if stream == nil {
		return nil
	}
	if _, err := io.Copy(to, stream); err != nil {
		return fmt.Errorf("kmsclient: can't read the request: %w", err)
	}
	if err := request.RewindStream(); err != nil {
		return fmt.Errorf("kmsclient: can't rewind the request: %w", err)
	}
	return nil
}

// made is what the SDK's serializer sets of a request, and the hash of its body.
type made struct {
	body                      place
	size                      int64
	method, target, mediaType string
	hash                      string
}

func madeOf(r *smithyhttp.Request, hash string) (made, error) {
	m := made{size: r.ContentLength, method: r.Method, target: r.Header.Get("X-Amz-Target"), mediaType: r.Header.Get("Content-Type"), hash: hash}
	return m, readBody(r, &m.body)
}

// place is where a body is that is written to it: a bytes.Reader's, with which the
// SDK makes requests, stays where it is until somebody gives the reader other
// bytes. Another reader's has a place of its own each time.
type place struct {
	first *byte
	size  int
}

func (b *place) Write(p []byte) (int, error) {
	if b.first == nil && len(p) > 0 {
		b.first = &p[0]
	}
	b.size += len(p)
	return len(p), nil
}

// isWhole reports whether a request still is what was serialised, with the whole
// of its body ahead, and will be signed as that.
func (c *call) isWhole(ctx context.Context, request *smithyhttp.Request) bool {
	now, err := madeOf(request, v4.GetPayloadHash(ctx))
	return err == nil && now.body.size > 0 && now == c.made
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
