package kmsclient

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// New returns a KMS client whose Decrypt, GenerateDataKey,
// GenerateDataKeyPair, GenerateRandom and DeriveSharedSecret are attested: see
// the package's documentation. It makes the RSA key that the client has for
// life, which takes a while and no context can interrupt; ctx is only asked
// before and after.
//
// From cfg come the region, the credentials, the retries and whatever else an
// SDK client takes, but not the HTTP client: cfg.HTTPClient is replaced, since
// the channel is part of what is promised. What optFns set counts for all
// calls; to set HTTPClient there is an error. (Options given with a single
// call are the SDK's own mechanism and can undo everything: don't set
// HTTPClient or APIOptions there.)
//
// New sends nothing and calls no attester. Its errors are of type *Error, with
// ReasonInvalidOptions or ReasonRecipientKey, or the context's.
//
// The client is safe for concurrent use, if attester and opts.Dial are.
func New(ctx context.Context, cfg aws.Config, attester Attester, opts Options, optFns ...func(*kms.Options)) (*kms.Client, error) {
	if missing(attester) {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Detail: "no attester: pass the *nsm.Session"}
	}
	keys, err := newPins(opts)
	if err != nil {
		return nil, err
	}
	hosts, err := newHosts(opts)
	if err != nil {
		return nil, err
	}
	channel := newChannel(opts)
	clock := opts.Clock
	if clock == nil {
		clock = time.Now
	}

	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := newRecipient(attester, opts.KeyBits)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}

	cfg = cfg.Copy()
	cfg.HTTPClient = channel
	otherChannel := false
	client := kms.NewFromConfig(cfg, append(slices.Clone(optFns), func(o *kms.Options) {
		otherChannel = o.HTTPClient != kms.HTTPClient(channel)
		// Last, so that nothing is around it but what a single call adds.
		o.APIOptions = append(slices.Clone(o.APIOptions), func(stack *middleware.Stack) error {
			return register(stack, r, keys, hosts, clock)
		})
	})...)
	if otherChannel {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions,
			Detail: "an option sets HTTPClient, and with it the channel that this package answers for; use Options.Dial and Options.RootCAs"}
	}
	if client.Options().Credentials == nil {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Detail: "no credentials: set cfg.Credentials, an enclave has nothing to take them from"}
	}
	region := client.Options().Region
	if region == "" {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Detail: "no region: set cfg.Region, an enclave has nothing to take it from"}
	}
	// The calls' stacks take it from here.
	if keys, err = keys.in(region); err != nil {
		return nil, err
	}
	return client, nil
}

// missing also finds the nil *nsm.Session of an nsm.Open whose error was
// dropped, which would otherwise be a panic on the first call.
func missing(attester Attester) bool {
	v := reflect.ValueOf(attester)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}
