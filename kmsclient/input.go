package kmsclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	body := bytes.NewBuffer(make([]byte, 0, max(0, request.ContentLength)))
	hash, err := hashOf(request, body)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, err
	}
	s.call.made, s.call.body = madeOf(request, hash), body.Bytes()
	in.Parameters = newCall(s.call.input).input // what others make of it now counts for nothing
	return s.SerializeHandler.HandleSerialize(v4.SetPayloadHash(ctx, hash), in)
}

func notHTTP(request any) error { return fmt.Errorf("kmsclient: not an HTTP request: %T", request) }

// hashOf takes the hash of a request's body, for the signature to cover, and
// copies the body.
func hashOf(request *smithyhttp.Request, body io.Writer) (string, error) {
	hash := sha256.New()
	if err := readBody(request, io.MultiWriter(hash, body)); err != nil {
		return "", fmt.Errorf("kmsclient: can't hash the request: %w", err)
	}
	var sum [sha256.Size]byte
	return hex.EncodeToString(hash.Sum(sum[:0])), nil
}

// readBody leaves a request as it was.
func readBody(request *smithyhttp.Request, to io.Writer) error {
	if _, err := io.Copy(to, request.GetStream()); err != nil {
		return err
	}
	return request.RewindStream()
}

// made is what the SDK's serializer sets of a request, and the hash of its body.
type made struct {
	stream                    io.Reader
	size                      int64
	method, target, mediaType string
	hash                      string
}

func madeOf(r *smithyhttp.Request, hash string) made {
	return made{r.GetStream(), r.ContentLength, r.Method, r.Header.Get("X-Amz-Target"), r.Header.Get("Content-Type"), hash}
}

// isWhole reports whether a request still is what was serialised, with the whole
// of its body ahead, and will be signed as that.
func (c *call) isWhole(ctx context.Context, request *smithyhttp.Request) bool {
	if c.made.stream == nil || madeOf(request, v4.GetPayloadHash(ctx)) != c.made {
		return false
	}
	// The same reader can have been read, or given other bytes.
	rest := unread{c.body}
	return readBody(request, &rest) == nil && len(rest.bytes) == 0
}

// unread takes the bytes that it was made with and no others.
type unread struct{ bytes []byte }

func (u *unread) Write(p []byte) (int, error) {
	rest, ok := bytes.CutPrefix(u.bytes, p)
	if !ok {
		return 0, errors.New("another body")
	}
	u.bytes = rest
	return len(p), nil
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
