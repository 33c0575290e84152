package kmsclient

import (
	"context"

	"github.com/aws/smithy-go/middleware"
)

const identityID = "GetIdentity"

// identity takes the place of the SDK's step that asks the credentials provider,
// and has it within, to tell the provider's errors from those of KMS: a provider
// may ask a service of AWS itself, STS as a rule, whose errors look the same.
type identity struct{ sdk middleware.FinalizeMiddleware }

func (identity) ID() string { return identityID }

func (i identity) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	after := &reached{FinalizeHandler: next}
	out, metadata, err := i.sdk.HandleFinalize(ctx, in, after)
	if err != nil && !after.yes {
		err = noIdentity{err}
	}
	return out, metadata, err
}

// reached notes whether it was called.
type reached struct {
	middleware.FinalizeHandler
	yes bool
}

func (r *reached) HandleFinalize(ctx context.Context, in middleware.FinalizeInput) (middleware.FinalizeOutput, middleware.Metadata, error) {
	r.yes = true
	return r.FinalizeHandler.HandleFinalize(ctx, in)
}

// noIdentity is the error of a credentials provider.
type noIdentity struct{ error }

func (n noIdentity) Unwrap() error { return n.error }
