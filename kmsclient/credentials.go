package kmsclient

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// findCredentials returns the provider of LoadConfig's configuration.
func findCredentials(ctx context.Context, provider aws.CredentialsProvider, metadata *imds.Client) (aws.CredentialsProvider, error) {
	if provider != nil {
		return aws.NewCredentialsCache(provider), nil
	}
	id, secret, token := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
	switch {
	case id != "" && secret != "":
		return credentials.NewStaticCredentialsProvider(id, secret, token), nil
	case id != "" || secret != "" || token != "":
		// Others would take the next source, and surprise someone.
		return nil, &Error{Reason: ReasonNoCredentials,
			Detail: "the environment has some of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, but not the first two: set both or none of the three"}
	case metadata == nil:
		return nil, &Error{Reason: ReasonNoCredentials,
			Detail: "set ConfigOptions.Credentials, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ConfigOptions.DialIMDS for those of the parent instance's role; nothing else is consulted"}
	}
	cache := aws.NewCredentialsCache(newInstanceRole(metadata), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = credentialsWindow })
	if _, err := cache.Retrieve(ctx); err != nil {
		if canceled := checkContext(ctx); canceled != nil {
			return nil, canceled
		}
		var ours *Error
		if errors.As(err, &ours) {
			return nil, ours // without what the SDK puts around it
		}
		return nil, &Error{Reason: ReasonInstanceMetadata, Detail: "no credentials", Err: err}
	}
	return cache, nil
}

const identityID = "GetIdentity"

// identity takes the place of the SDK's step that asks the credentials provider, and
// runs it, to tell the provider's errors from those of KMS: a provider may ask a
// service of AWS itself, often STS, whose errors look the same.
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

// hint says whose error it is, since it may look like one of KMS's.
func (n noIdentity) hint() string {
	var other *smithy.OperationError
	if !errors.As(n.error, &other) {
		return "the credentials provider failed; KMS was not asked"
	}
	hint := fmt.Sprintf("the credentials provider failed at %s of %s; KMS was not asked", other.Operation(), other.Service())
	var api smithy.APIError
	if errors.As(other, &api) {
		switch api.ErrorCode() {
		case "SignatureDoesNotMatch", "RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException":
			hint += "; the secret key is wrong, or the enclave's clock is"
		case "ExpiredToken", "ExpiredTokenException":
			hint += "; the credentials that it asks with have expired themselves"
		}
	}
	return hint
}
