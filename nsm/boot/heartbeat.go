package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/keyvouch/keyvouch/internal/loopback"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// HeartbeatPort is the vsock port of the parent on which nitro-cli waits for the
// heartbeat of an enclave that it has started (aws-nitro-enclaves-cli, and init.c of
// aws-nitro-enclaves-sdk-bootstrap).
const HeartbeatPort = 9000

// heartbeatTimeout bounds the whole exchange.
const heartbeatTimeout = 10 * time.Second

// heartbeat is the byte that goes to the parent and comes back.
const heartbeat = 0xB7

// Heartbeat tells nitro-cli that the enclave has started. nitro-cli ends an enclave
// that does not. The init of nitro-cli build-enclave has sent it already: call this
// only in an init of your own, and once, because nobody listens afterwards.
//
// The zero Endpoint stands for vsockproxy.Vsock(vsockproxy.ParentCID, HeartbeatPort).
// Heartbeat takes 10 seconds at most. Errors are *Error; if the
// dial failed, they wrap a *vsockproxy.Error. The answer is the parent's word and
// proves nothing.
func Heartbeat(ctx context.Context, e vsockproxy.Endpoint) error {
	if e.IsZero() {
		e = vsockproxy.Vsock(vsockproxy.ParentCID, HeartbeatPort)
	}
	ctx, cancel := context.WithTimeout(ctx, heartbeatTimeout)
	defer cancel()
	conn, err := (&vsockproxy.Dialer{Endpoint: e}).DialContext(ctx, "", "")
	if err != nil {
		failed := &Error{Op: "Heartbeat", Reason: ReasonHeartbeat, Err: err}
		var dial *vsockproxy.Error
		if errors.As(err, &dial) && dial.Reason == vsockproxy.ReasonRefused {
			failed.Detail = "nobody waits for a heartbeat there; the init of nitro-cli's images may have sent it already"
		}
		return failed
	}
	defer func() { _ = conn.Close() }()
	// A deadline in the past wakes a blocked read or write when ctx ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	beat := [1]byte{heartbeat}
	if _, err = conn.Write(beat[:]); err == nil {
		_, err = io.ReadFull(conn, beat[:])
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return &Error{Op: "Heartbeat", Reason: ReasonHeartbeat, Field: e.String(), Detail: "the parent took the connection and did not send the heartbeat back", Err: err}
	}
	if beat[0] != heartbeat {
		return &Error{Op: "Heartbeat", Reason: ReasonHeartbeat, Field: e.String(), Detail: fmt.Sprintf("the parent answered %#02x to the heartbeat %#02x", beat[0], byte(heartbeat))}
	}
	return nil
}

// LoopbackUp brings up the loopback interface, without which nothing connects to
// 127.0.0.1. An interface that is up is left alone; bringing it up needs root or
// CAP_NET_ADMIN. Systems other than Linux bring it up themselves; if one has not, the
// error wraps errors.ErrUnsupported. Errors are *Error.
func LoopbackUp() error {
	err := loopback.Up()
	if err == nil {
		return nil
	}
	failed := &Error{Op: "LoopbackUp", Reason: ReasonLoopback, Err: err}
	if errors.Is(err, fs.ErrPermission) {
		failed.Detail = "run as root or with CAP_NET_ADMIN"
	}
	return failed
}
