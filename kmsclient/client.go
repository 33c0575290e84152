package kmsclient

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// New returns a KMS client whose Decrypt, GenerateDataKey,
// GenerateDataKeyPair, GenerateRandom and DeriveSharedSecret are attested: see
// the package's documentation. It makes the client's (first) RSA key, which
// takes a while and no context can interrupt; ctx is only asked before and
// after.
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
// The client is safe for concurrent use, if attester and the functions in opts
// are.
func New(ctx context.Context, cfg aws.Config, attester Attester, opts Options, optFns ...func(*kms.Options)) (*kms.Client, error) {
	s, err := newSetup(ctx, attester, opts)
	if err != nil {
		return nil, named("New", err)
	}
	cfg = cfg.Copy()
	cfg.HTTPClient = s.channel
	otherChannel := false
	client := kms.NewFromConfig(cfg, append(slices.Clone(optFns), func(o *kms.Options) {
		otherChannel = o.HTTPClient != kms.HTTPClient(s.channel)
		s.apply(o) // last, so that nothing is around it but what a single call adds
	})...)
	if otherChannel {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions,
			Detail: "an option sets HTTPClient, and with it the channel that this package answers for; use Options.Dial and Options.RootCAs"}
	}
	if client.Options().Credentials == nil {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Detail: "no credentials: set cfg.Credentials, an enclave has nothing to take them from"}
	}
	// Each call asks again, for its own region; here it is early.
	if _, err := s.pins.in(client.Options().Region); err != nil {
		return nil, named("New", err)
	}
	return client, nil
}

// Attested returns an option for code that makes its clients itself, or gets
// them made: with it, kms.NewFromConfig makes what [New] makes.
//
//	option, err := kmsclient.Attested(ctx, session, opts)
//	…
//	client := kms.NewFromConfig(cfg, option)
//
// The option replaces HTTPClient, whoever set it before. Make it the last one:
// a later one that sets HTTPClient or APIOptions can undo everything, and where
// New has an error for that, nobody can tell here. Nor can a client be refused
// that lacks credentials, or in whose region no pinned key is: then each call
// fails.
//
// Attested makes the RSA key, as New does. All clients that are made with one
// option have the same key and share connections. The option may also be given to a
// single call of a client, for that call, but not to both a client and its call,
// nor twice: then calls fail.
//
// Attested sends nothing and calls no attester. Its errors are those of New.
// The option is safe for concurrent use, if attester and the functions in opts
// are.
func Attested(ctx context.Context, attester Attester, opts Options) (func(*kms.Options), error) {
	s, err := newSetup(ctx, attester, opts)
	if err != nil {
		return nil, named("Attested", err)
	}
	return s.apply, nil
}
