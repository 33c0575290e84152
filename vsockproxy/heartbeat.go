package vsockproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// HeartbeatPort is the vsock port of the parent on which nitro-cli waits for an
// enclave that it has started to say that it runs (aws-nitro-enclaves-cli, and
// init.c of aws-nitro-enclaves-sdk-bootstrap).
const HeartbeatPort = 9000

// heartbeat is the byte that goes to the parent and comes back.
const heartbeat = 0xB7

// Heartbeat tells nitro-cli that the enclave has started, as the first process of an
// enclave must: nitro-cli ends an enclave that does not. The init that nitro-cli
// build-enclave puts into an image has done so before the program starts; call this
// only in an init of your own, and once, because nobody listens any more afterwards.
//
// The zero Endpoint stands for Vsock(ParentCID, HeartbeatPort); another is of use
// under other hypervisors. Heartbeat takes DefaultDialTimeout at most. Errors are
// *Error, with Op "dial" if nobody listens there, [ReasonRefused] for instance, or
// "heartbeat". What comes back is the parent's word and proves nothing.
func Heartbeat(ctx context.Context, e Endpoint) error {
	if e.IsZero() {
		e = Vsock(ParentCID, HeartbeatPort)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultDialTimeout)
	defer cancel()
	conn, err := (&Dialer{Endpoint: e}).DialContext(ctx, "", "")
	var failed *Error
	if errors.As(err, &failed) {
		failed.Detail = heartbeatAdvice(failed)
		return failed
	}
	defer func() { _ = conn.Close() }()
	beat := [1]byte{heartbeat}
	err = handshake(ctx, conn, func() error {
		if _, err := conn.Write(beat[:]); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, beat[:])
		return err
	})
	if err != nil {
		failed := dialError(ctx, e, err)
		failed.Op, failed.Detail = "heartbeat", "the parent has taken the connection, and not sent the heartbeat back"
		return failed
	}
	if beat[0] != heartbeat {
		return &Error{Op: "heartbeat", Endpoint: e, Reason: ReasonHandshake, Detail: fmt.Sprintf("the parent answered %#02x to the heartbeat %#02x", beat[0], byte(heartbeat))}
	}
	return nil
}

func heartbeatAdvice(e *Error) string {
	if e.Reason == ReasonRefused {
		return "nobody waits for a heartbeat there; has one been sent already, as the init of nitro-cli's images does?"
	}
	return e.Detail
}
