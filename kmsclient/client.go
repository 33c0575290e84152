package kmsclient

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// New returns a KMS client whose Decrypt, GenerateDataKey, GenerateDataKeyPair,
// GenerateRandom and DeriveSharedSecret are attested. It refuses options that cannot be
// meant, and a cfg without credentials or for a region without pinned keys.
//
// Region, credentials, retries and other settings come from cfg; cfg.HTTPClient is
// replaced. optFns apply to every call; setting HTTPClient in one is an error. Options
// of a single call are the SDK's own and can undo everything: do not set HTTPClient or
// APIOptions there.
//
// New makes the RSA key, which no context interrupts; ctx is checked before and after.
// It sends nothing and calls no attester. Its errors are of type [*Error], with
// ReasonInvalidOptions, ReasonRecipientKey or ReasonCanceled.
//
// The client is safe for concurrent use if attester and the functions in opts are.
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
		s.apply(o) // last, so that only what a single call adds is around it
	})...)
	if otherChannel {
		return nil, &Error{Op: "New", Reason: ReasonInvalidOptions, Field: "kms.Options.HTTPClient",
			Detail: "an option sets it, and with it the channel that this package answers for; use Options.Dial and Options.RootCAs"}
	}
	if client.Options().Credentials == nil {
		return nil, named("New", errNoCredentials)
	}
	// Each call checks its own region again; this one is early.
	if _, err := s.pins.in(client.Options().Region); err != nil {
		return nil, named("New", err)
	}
	return client, nil
}

// errNoCredentials is for a configuration from which no request can be signed.
var errNoCredentials = &Error{Reason: ReasonInvalidOptions, Field: "aws.Config.Credentials",
	Detail: "no credentials: set them, since an enclave has nothing to take them from"}

// Attested returns an option with which kms.NewFromConfig makes what [New] makes, for
// code that makes its clients itself:
//
//	option, err := kmsclient.Attested(ctx, session, opts)
//	…
//	client := kms.NewFromConfig(cfg, option)
//
// Its errors are those of New for attester and opts. It makes the RSA key, sends
// nothing and calls no attester.
//
// The option replaces HTTPClient. Make it the last one: a later one that sets
// HTTPClient or APIOptions can undo everything, which is not detected. In a client
// without credentials, or in a region without pinned keys, every call fails.
//
// All clients made with one option share its key and connections. The option may also
// be given to a single call. Given twice, or to both a client and its call, it makes
// calls fail. It is safe for concurrent use if attester and the functions in opts are.
func Attested(ctx context.Context, attester Attester, opts Options) (func(*kms.Options), error) {
	s, err := newSetup(ctx, attester, opts)
	if err != nil {
		return nil, named("Attested", err)
	}
	return s.apply, nil
}

// setup is what makes a client an attested one. Several clients can share it, and it is
// safe for concurrent use.
type setup struct {
	attester Attester
	keys     *rotation
	pins     pins
	hosts    []string
	channel  *http.Client
	clock    func() time.Time // Options.Clock, which need not advance
}

func newSetup(ctx context.Context, attester Attester, opts Options) (*setup, error) {
	if missing(attester) {
		return nil, &Error{Reason: ReasonInvalidOptions, Field: "attester", Detail: "no attester: pass the *nsm.Session"}
	}
	p, err := newPins(opts)
	if err != nil {
		return nil, err
	}
	hosts, err := newHosts(opts.Hosts)
	if err != nil {
		return nil, err
	}
	clock := opts.Clock
	if clock == nil {
		clock = time.Now
	}
	if err := checkContext(ctx); err != nil {
		return nil, err
	}
	keys, err := newRotation(opts, clock)
	if err != nil {
		return nil, err
	}
	if err := checkContext(ctx); err != nil {
		return nil, err
	}
	return &setup{attester: attester, keys: keys, pins: p, hosts: hosts, channel: channel.New(opts.Dial, opts.RootCAs), clock: clock}, nil
}

// missing also finds the nil *nsm.Session of an nsm.Open whose error was dropped, which
// would otherwise be a panic on the first call.
func missing(attester Attester) bool {
	v := reflect.ValueOf(attester)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

func checkContext(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &Error{Reason: ReasonCanceled, Err: err}
	}
	return nil
}

// apply is an option of the SDK's. It clones APIOptions, which the clients of one
// aws.Config share.
func (s *setup) apply(o *kms.Options) {
	o.HTTPClient = s.channel
	o.APIOptions = append(slices.Clone(o.APIOptions), s.register)
}
