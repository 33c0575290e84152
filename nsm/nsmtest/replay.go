package nsmtest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/keyvouch/keyvouch/nsm"
)

// Replay returns a device that answers as recorded: to the recorded requests,
// byte for byte and in their order. Any other request fails with an [Error] of
// [ReasonMismatch], or [ReasonExhausted] after the last, and does not advance
// the replay. The device is safe for concurrent use.
//
// Where an error was recorded, a session over the replay behaves as over the
// recorded device and says the same. An error with an *nsm.Error in its chain
// is again an *nsm.Error with the same fields, and wraps the errors that
// [Failure] names; any other is an [Error] of [ReasonRecorded] with the recorded
// text, and wraps them too.
func (r *Recording) Replay() nsm.Device {
	return &replay{exchanges: cloneExchanges(r.Exchanges)}
}

type replay struct {
	mu        sync.Mutex
	exchanges []Exchange
	next      int
	closed    bool
}

func (r *replay) Send(request []byte) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &nsm.Error{Op: "Send", Reason: nsm.ReasonClosed, Detail: "the replay was closed"}
	}
	if r.next == len(r.exchanges) {
		return nil, &Error{Op: "Send", Reason: ReasonExhausted, Detail: fmt.Sprintf(
			"the recording ends after %d exchanges, and the next request is %s; record the session again", len(r.exchanges), describe(request))}
	}
	want := r.exchanges[r.next]
	if !bytes.Equal(request, want.Request) {
		return nil, &Error{Op: "Send", Reason: ReasonMismatch, Detail: fmt.Sprintf(
			"exchange %d of %d differs from byte %d on: the request is %s, and %s was recorded; if the change is meant, record the session again",
			r.next, len(r.exchanges), commonPrefix(request, want.Request), describe(request), describe(want.Request))}
	}
	r.next++
	if want.Error != "" {
		return nil, want.replayed()
	}
	return slices.Clone(want.Response), nil
}

func (r *replay) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return nil
}

// describe names a request for a message: its kind and its first bytes.
func describe(request []byte) string {
	const shown = 64
	kind := "not a request"
	if parsed, ok := parseRequest(request); ok {
		kind = parsed.kind
	}
	text := hex.EncodeToString(request[:min(len(request), shown)])
	if len(request) > shown {
		text += fmt.Sprintf("… (%d bytes)", len(request))
	}
	return kind + " " + text
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
