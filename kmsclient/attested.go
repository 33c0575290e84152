package kmsclient

import (
	"context"
	"fmt"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// attested makes one call of one of the five operations an attested one. The
// SDK builds a new stack for every call, and a stack has one of these in three
// places: around everything, where it judges the answer; around the SDK's
// serializer, where it copies the input and puts the first document in; and inside
// the retry loop, where each further attempt gets a document of its own.
type attested struct {
	*setup
	op   string
	pins pins // of the call's region
	// serializer is the SDK's, which turns an input into a request's body.
	serializer middleware.SerializeMiddleware
	call       *call // nil until the input is final, and in any other operation
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
			Detail: "the answer is a middleware's: no attested request was sent"}
	}
	if err := a.judge(c, out.Result); err != nil {
		return middleware.InitializeOutput{}, metadata, named(c.op, err)
	}
	return out, metadata, nil
}

// judge checks an answer, opens its envelope and fills in the plaintext.
func (a *attested) judge(c *call, output any) error {
	got, ok := newAnswer(output)
	if !ok {
		return &Error{Reason: ReasonNoEnvelope, Detail: fmt.Sprintf("the answer is a %T", output)}
	}
	// The API reference: "the Plaintext field is null or empty".
	if len(*got.plaintext) != 0 {
		return &Error{Reason: ReasonPlaintextInAnswer,
			Detail: "the answer holds a plaintext in the clear, which KMS never sends to a recipient: someone else answered"}
	}
	if len(*got.envelope) == 0 {
		return &Error{Reason: ReasonNoEnvelope, Detail: "the answer holds no CiphertextForRecipient: the request's recipient was dropped on the way, or someone else answered"}
	}
	if c.keyID != nil {
		var answered string
		if got.keyID != nil {
			answered = *got.keyID
		}
		if err := a.pins.checkAnswer(c.requestedKey(), answered); err != nil {
			return err
		}
	}
	if got.missing != "" {
		return &Error{Reason: ReasonIncomplete, Detail: "the answer holds no " + got.missing + ", which KMS always sends: without what is to be stored, the key is lost with the enclave"}
	}
	plaintext, err := c.key.Open(*got.envelope)
	if err != nil {
		return &Error{Reason: ReasonEnvelope, Detail: "the answer isn't for this client", Err: err}
	}
	if n := len(plaintext); n == 0 || c.sized && n != c.size {
		clear(plaintext)
		return &Error{Reason: ReasonPlaintextSize, Detail: fmt.Sprintf("the answer's plaintext has %d bytes, %s", n, c.sizeWanted())}
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

// named puts the operation into an error of ours that lacks it: into a copy, since
// an error can have been given to others too. What is around one stays as it is.
func named(op string, err error) error {
	e, ok := err.(*Error)
	if !ok || e.Op != "" {
		return err
	}
	own := *e
	own.Op = op
	return &own
}

// attestedAttempt sees to it that each attempt goes out with a fresh document,
// and with the input that was checked. The first one has both from finalInput, and
// if it still has them here, nothing is left to do. Else it is attested anew,
// inside the retry loop, so that no back-off, however long, ends with an old
// document. By then the SDK has serialised the input: it is serialised again, with
// the document, and the hash that the signature covers is taken again.
type attestedAttempt struct{ *attested }

func (attestedAttempt) ID() string { return "KeyvouchAttestedAttempt" }

func (a attestedAttempt) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	if a.call == nil {
		return next.HandleFinalize(ctx, in)
	}
	if !a.isReady(ctx, in.Request) {
		var err error
		if ctx, err = a.again(ctx, in.Request); err != nil {
			return middleware.FinalizeOutput{}, middleware.Metadata{}, final{named(a.call.op, err)}
		}
	}
	a.call.attempts++
	a.call.last.sent = a.clock()
	out, metadata, err := next.HandleFinalize(withProgress(ctx, a.call.last.progress), in)
	a.call.last.answered = a.clock()
	if err != nil && ctx.Err() == nil {
		a.call.failed, a.call.failedAttempt = err, a.call.attempts
	}
	return out, metadata, err
}

// maxDocumentAge is how old the document that finalInput made may be when the
// first attempt is sent. What is in between is computing, unless credentials have
// to be fetched first, or a middleware of the caller's waits.
const maxDocumentAge = 2 * time.Second

// isReady reports whether the request is the one of finalInput, untouched and
// fresh. Only the first attempt's can be: the retry loop sends each with a clone.
func (a *attested) isReady(ctx context.Context, transportRequest any) bool {
	request, ok := transportRequest.(*smithyhttp.Request)
	if !ok || a.call.attempts > 0 || !a.call.isWhole(ctx, request) {
		return false
	}
	age := a.now().Sub(a.call.last.attested)
	return age >= 0 && age <= maxDocumentAge
}

// attest puts a fresh document into the call's input.
func (a *attested) attest(ctx context.Context) error {
	info, err := a.call.key.document(ctx, a.attester)
	if err != nil {
		return err
	}
	*a.call.recipient = info
	a.call.last = attempt{document: info.AttestationDocument, attested: a.now(), progress: new(progress)}
	return nil
}

// again attests a request that has been serialised before.
func (a *attested) again(ctx context.Context, transportRequest any) (context.Context, error) {
	request, ok := transportRequest.(*smithyhttp.Request)
	if !ok {
		return nil, notHTTP(transportRequest)
	}
	if err := a.attest(ctx); err != nil {
		return nil, err
	}
	if _, _, err := a.serializer.HandleSerialize(ctx, middleware.SerializeInput{Parameters: a.call.input, Request: request}, done{}); err != nil {
		return nil, fmt.Errorf("kmsclient: can't serialise the request with its document: %w", err)
	}
	hash, err := hashOf(request)
	if err != nil {
		return nil, err
	}
	return v4.SetPayloadHash(ctx, hash), nil
}

// done ends the serialisation: what follows in the stack has run already.
type done struct{}

func (done) HandleSerialize(context.Context, middleware.SerializeInput) (middleware.SerializeOutput, middleware.Metadata, error) {
	return middleware.SerializeOutput{}, middleware.Metadata{}, nil
}
