package kmsclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// attested is one call of one operation. The SDK builds a new stack of middlewares for
// every call, and three of them share an attested:
//
//   - attestedCall, around everything, judges the response;
//   - finalInput, around the SDK's serializer, checks the input and copies it;
//   - attestedAttempt, inside the retry loop, gives each attempt its document.
type attested struct {
	*setup
	op         string
	pins       pins                           // of the call's region
	serializer middleware.SerializeMiddleware // the SDK's, which turns an input into a request's body
	call       *call                          // nil until the input is final, and in any other operation
}

const serializerID = "OperationSerializer"

// register puts everything into the stack of a call.
func (s *setup) register(stack *middleware.Stack) error {
	serializer, ok := stack.Serialize.Get(serializerID)
	if !ok {
		return unsupported(stack, serializerID)
	}
	a := &attested{op: stack.ID(), setup: s, pins: s.pins, serializer: serializer}
	if err := stack.Initialize.Add(attestedCall{a}, middleware.Before); err != nil {
		return err
	}
	if _, err := stack.Serialize.Swap(serializerID, finalInput{a}); err != nil {
		return err
	}
	if err := guard(stack, s.hosts); err != nil {
		return err
	}
	// The last step before signing, so that nothing is between the document and the
	// signature.
	return stack.Finalize.Insert(attestedAttempt{a}, "Signing", middleware.Before)
}

// unsupported makes the error for a stack that lacks a step.
func unsupported(stack *middleware.Stack, step string) error {
	return &Error{Op: stack.ID(), Reason: ReasonUnsupported, Detail: "this version of the SDK has no " + step + "; nothing was sent"}
}

type attestedCall struct{ *attested }

func (attestedCall) ID() string { return "KeyvouchAttestedCall" }

func (a attestedCall) HandleInitialize(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	middleware.InitializeOutput, middleware.Metadata, error,
) {
	// A call can have a region of its own.
	pins, err := a.pins.in(awsmiddleware.GetRegion(ctx))
	if err != nil {
		return middleware.InitializeOutput{}, middleware.Metadata{}, named(a.op, err)
	}
	a.pins = pins
	out, metadata, err := next.HandleInitialize(ctx, in)
	c := a.call
	if c == nil { // it never came to an input that is final
		if c = newCall(in.Parameters); c == nil {
			return out, metadata, err
		}
	}
	if err != nil {
		return middleware.InitializeOutput{}, metadata, c.explain(ctx, err)
	}
	if a.call == nil {
		return middleware.InitializeOutput{}, metadata, &Error{Op: c.op, Reason: ReasonNoEnvelope,
			Detail: "the response is a middleware's: no attested request was sent"}
	}
	if err := a.judge(c, out.Result); err != nil {
		return middleware.InitializeOutput{}, metadata, named(c.op, err)
	}
	return out, metadata, nil
}

// finalInput takes the place of the SDK's serializer and runs it, so that nothing is
// between them: what middlewares made of the caller's input up to here is checked and
// copied, and only the copy is attested and sent.
//
// The serializer's result serves the middlewares that look at it. It has no document
// yet, and attestedAttempt replaces it.
type finalInput struct{ *attested }

func (finalInput) ID() string { return serializerID }

func (a finalInput) HandleSerialize(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (
	middleware.SerializeOutput, middleware.Metadata, error,
) {
	c, err := a.prepare(in.Parameters)
	if err != nil {
		return middleware.SerializeOutput{}, middleware.Metadata{}, named(a.op, err)
	}
	a.call = c
	if c != nil {
		in.Parameters = newCall(c.input).input // what others make of it from here on counts for nothing
	}
	return a.serializer.HandleSerialize(ctx, in, next)
}

// prepare checks an input of any operation, and copies it if the operation is attested.
func (a *attested) prepare(input any) (*call, error) {
	c := newCall(input)
	if c == nil {
		return nil, a.pins.checkInput(a.op, input)
	}
	if *c.recipient != nil {
		return nil, &Error{Reason: ReasonRecipientSet, Field: "Recipient",
			Detail: "leave it nil: the client sets one with a fresh document for a key of its own"}
	}
	c.key = a.keys.current()
	return c, a.nameKey(c)
}

// nameKey checks the request's key, and names the pinned one where KMS would otherwise
// take whatever key the ciphertext names.
func (a *attested) nameKey(c *call) error {
	if c.keyID == nil {
		return nil
	}
	if *c.keyID != nil {
		id := **c.keyID // a copy: the caller's string can change after the check
		*c.keyID = &id
		return a.pins.checkRequest(id)
	}
	if only, ok := a.pins.only(); ok && c.keyOptional {
		*c.keyID = &only
	}
	return nil
}

// attestedAttempt gives each attempt a fresh document and the input that was checked,
// whatever middlewares made of the serialized request. It is inside the retry loop and
// after credentials, so that no document grows old while they are awaited.
type attestedAttempt struct{ *attested }

func (attestedAttempt) ID() string { return "KeyvouchAttestedAttempt" }

func (a attestedAttempt) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	if a.call == nil {
		return next.HandleFinalize(ctx, in)
	}
	if err := ctx.Err(); err != nil { // the attester would name itself as the cause
		return middleware.FinalizeOutput{}, middleware.Metadata{}, err
	}
	ctx, err := a.attest(ctx, in.Request)
	if err != nil {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, channel.Final{Err: named(a.op, err)}
	}
	a.call.attempts++
	a.call.last.sent = a.clock()
	out, metadata, err := next.HandleFinalize(channel.WithProgress(ctx, a.call.last.progress), in)
	a.call.last.received = a.clock()
	if err != nil && ctx.Err() == nil {
		a.call.failed, a.call.failedAttempt = err, a.call.attempts
	}
	return out, metadata, err
}

// attest puts a fresh document into the call's input and serializes it into the request.
// The context that it returns has the hash that the signature covers: the SDK took it
// before, of what was there then.
func (a *attested) attest(ctx context.Context, transportRequest any) (context.Context, error) {
	request, ok := transportRequest.(*smithyhttp.Request)
	if !ok {
		return ctx, &Error{Reason: ReasonUnsupported, Detail: fmt.Sprintf("not an HTTP request: %T", transportRequest)}
	}
	info, err := a.call.key.document(ctx, a.attester)
	if err != nil {
		return ctx, err
	}
	*a.call.recipient = info
	a.call.last = attempt{document: info.AttestationDocument, progress: new(channel.Progress)}
	if _, _, err := a.serializer.HandleSerialize(ctx, middleware.SerializeInput{Parameters: a.call.input, Request: request}, done{}); err != nil {
		return ctx, &Error{Reason: ReasonUnsupported, Detail: "the request cannot be serialised with its document", Err: err}
	}
	hash, err := hashOf(request)
	if err != nil {
		return ctx, &Error{Reason: ReasonUnsupported, Detail: "the serialised request cannot be read", Err: err}
	}
	return v4.SetPayloadHash(ctx, hash), nil
}

// hashOf hashes a request's body and leaves the request as it was.
func hashOf(request *smithyhttp.Request) (string, error) {
	hash := sha256.New()
	if body := request.GetStream(); body != nil {
		if _, err := io.Copy(hash, body); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), request.RewindStream()
}

// done ends the serialisation: what follows in the stack has run already.
type done struct{}

func (done) HandleSerialize(context.Context, middleware.SerializeInput) (middleware.SerializeOutput, middleware.Metadata, error) {
	return middleware.SerializeOutput{}, middleware.Metadata{}, nil
}
