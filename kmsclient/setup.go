package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// setup is what makes a client an attested one. It can be used concurrently,
// and by several clients.
type setup struct {
	attester Attester
	keys     *rotation
	pins     pins
	hosts    []string
	channel  *http.Client
	clock    func() time.Time // Options.Clock, which need not advance
	now      func() time.Time
}

func newSetup(ctx context.Context, attester Attester, opts Options) (*setup, error) {
	if missing(attester) {
		return nil, &Error{Reason: ReasonInvalidOptions, Detail: "no attester: pass the *nsm.Session"}
	}
	p, err := newPins(opts)
	if err != nil {
		return nil, err
	}
	hosts, err := newHosts(opts)
	if err != nil {
		return nil, err
	}
	clock := opts.Clock
	if clock == nil {
		clock = time.Now
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	keys, err := newRotation(opts, clock)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return &setup{attester: attester, keys: keys, pins: p, hosts: hosts, channel: newChannel(opts.Dial, opts.RootCAs), clock: clock, now: time.Now}, nil
}

// missing also finds the nil *nsm.Session of an nsm.Open whose error was
// dropped, which would otherwise be a panic on the first call.
func missing(attester Attester) bool {
	v := reflect.ValueOf(attester)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

// apply is an option of the SDK's.
func (s *setup) apply(o *kms.Options) {
	o.HTTPClient = s.channel
	o.APIOptions = append(slices.Clone(o.APIOptions), s.register) // a clone, for cfg's clients share the slice
}

// register puts everything into the stack of a call.
func (s *setup) register(stack *middleware.Stack) error {
	serializer, ok := stack.Serialize.Get(serializerID)
	if !ok {
		return errors.New("kmsclient: this version of the SDK has no OperationSerializer; no request can be attested")
	}
	a := &attested{op: stack.ID(), setup: s, pins: s.pins, serializer: serializer}
	if err := stack.Initialize.Add(attestedCall{a}, middleware.Before); err != nil {
		return err
	}
	if _, err := stack.Serialize.Swap(serializerID, finalInput{a}); err != nil {
		return err
	}
	// Before signing, which the retry loop is around: see attestedAttempt.
	if err := guard(stack, s.hosts); err != nil {
		return err
	}
	return stack.Finalize.Insert(attestedAttempt{a}, "Signing", middleware.Before)
}

// guard puts into the stack what requests that aren't attested need as well.
func guard(stack *middleware.Stack, hosts []string) error {
	credentials, ok := stack.Finalize.Get(identityID)
	if !ok {
		return errors.New("kmsclient: this version of the SDK has no GetIdentity; errors of credentials couldn't be told from KMS's")
	}
	if _, err := stack.Finalize.Swap(identityID, identity{credentials}); err != nil {
		return err
	}
	return stack.Finalize.Insert(endpointGuard{op: stack.ID(), hosts: hosts}, "Signing", middleware.Before)
}
