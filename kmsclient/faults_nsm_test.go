package kmsclient_test

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
)

// faultyDevice is a device whose driver or NSM can be made to fail.
type faultyDevice struct {
	nsm.Device
	send  atomic.Pointer[func(request []byte) ([]byte, error)] // nil: the Device's
	sends atomic.Int32
}

func (d *faultyDevice) Send(request []byte) ([]byte, error) {
	d.sends.Add(1)
	if send := d.send.Load(); send != nil {
		return (*send)(request)
	}
	return d.Device.Send(request)
}

func (d *faultyDevice) fail(send func([]byte) ([]byte, error)) { d.send.Store(&send) }
func (d *faultyDevice) heal()                                  { d.send.Store(nil) }

// refusal is the NSM's answer {"Error": code}.
func refusal(code nsm.Code) []byte {
	answer := append([]byte{0xa1, 0x65}, "Error"...)
	if len(code) < 24 {
		answer = append(answer, 0x60|byte(len(code)))
	} else {
		answer = append(answer, 0x78, byte(len(code)))
	}
	return append(answer, code...)
}

// Without a document nothing is sent, nothing is even dialed, and the NSM is
// not asked again: the SDK's retryers would take ETIMEDOUT for the network's.
func TestNSMFails(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	device := &faultyDevice{Device: r.device}
	session := nsm.NewSession(device)
	t.Cleanup(func() { _ = session.Close() })
	client := r.over(t, session, kmsclient.Options{})

	failing := func(err error) func([]byte) ([]byte, error) {
		return func([]byte) ([]byte, error) { return nil, err }
	}
	answering := func(answer []byte) func([]byte) ([]byte, error) {
		return func([]byte) ([]byte, error) { return answer, nil }
	}
	type failure struct {
		send  func([]byte) ([]byte, error)
		want  nsm.Reason
		code  nsm.Code
		cause error
		sends int32 // 0 means 1
	}
	tests := map[string]failure{
		"gone": {failing(syscall.ENODEV), nsm.ReasonDevice, "", syscall.ENODEV, 0},
		"no device": {failing(&nsm.Error{Reason: nsm.ReasonNoDevice}),
			nsm.ReasonNoDevice, "", nsm.ReasonNoDevice, 0},
		"permission": {failing(&nsm.Error{Reason: nsm.ReasonPermission, Err: syscall.EACCES}), nsm.ReasonPermission, "", fs.ErrPermission, 0},
		"driver's timeout": {failing(&nsm.Error{Reason: nsm.ReasonTimeout, Err: syscall.ETIMEDOUT}),
			nsm.ReasonTimeout, "", syscall.ETIMEDOUT, 0},
		"interrupted": {failing(syscall.EINTR), nsm.ReasonInterrupted, "", syscall.EINTR, 8},
		"too large": {failing(&nsm.Error{Reason: nsm.ReasonRequestSize, Code: nsm.CodeInputTooLarge, Err: syscall.EMSGSIZE}),
			nsm.ReasonRequestSize, nsm.CodeInputTooLarge, syscall.EMSGSIZE, 0},
		"connection reset": {failing(syscall.ECONNRESET), nsm.ReasonDevice, "", syscall.ECONNRESET, 0},
		"no answer":        {answering(nil), nsm.ReasonMalformedResponse, "", nil, 0},
		"half an answer":   {answering([]byte{0xa1, 0x6b, 'A', 't'}), nsm.ReasonMalformedResponse, "", nil, 0},
		"another's answer": {answering(append([]byte{0x67}, "LockPCR"...)), nsm.ReasonMalformedResponse, "", nil, 0},
	}
	for _, code := range []nsm.Code{nsm.CodeSuccess, nsm.CodeInvalidArgument, nsm.CodeInvalidIndex, nsm.CodeInvalidResponse, nsm.CodeReadOnlyIndex,
		nsm.CodeInvalidOperation, nsm.CodeBufferTooSmall, nsm.CodeInputTooLarge, nsm.CodeInternalError} {
		tests[string(code)] = failure{answering(refusal(code)), nsm.ReasonNSM, code, nil, 0}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			device.fail(test.send)
			requests, sends := len(r.kms.Requests()), device.sends.Load()
			conns, _ := r.cutter.counts()
			out, err := client.Decrypt(t.Context(), input, attempts(3))
			wantFault(t, out, err, kmsclient.ReasonAttestation, "no attestation document")
			var of *nsm.Error
			if !errors.As(err, &of) || of.Op != "Attest" || of.Reason != test.want || of.Code != test.code {
				t.Errorf("error %v, want the NSM's reason %q and code %q", err, test.want, test.code)
			}
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("the cause isn't there: %v", err)
			}
			if n := device.sends.Load() - sends; n != max(test.sends, 1) {
				t.Errorf("the device was asked %d times", n)
			}
			r.wantNothingSent(t, requests, conns)

			device.heal()
			out, err = client.Decrypt(t.Context(), input, attempts(1))
			wantSecret(t, 1, out, err)
			closeIdle(client)
		})
	}
}

// wantNothingSent wants no requests and connections beyond those.
func (r *rig) wantNothingSent(t *testing.T, requests, conns int) {
	t.Helper()
	if n := len(r.kms.Requests()); n != requests {
		t.Errorf("%d requests", n-requests)
	}
	if n, _ := r.cutter.counts(); n != conns {
		t.Errorf("%d connections", n-conns)
	}
}

// An NSM that doesn't answer holds no call beyond its context, and none that
// comes after it answered.
func TestNSMHangs(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	device := &faultyDevice{Device: r.device}
	session := nsm.NewSession(device)
	t.Cleanup(func() { _ = session.Close() })
	client := r.over(t, session, kmsclient.Options{})
	requests := len(r.kms.Requests())

	asked, answer := make(chan struct{}), make(chan struct{})
	device.fail(func([]byte) ([]byte, error) {
		close(asked)
		<-answer
		return nil, syscall.ETIMEDOUT
	})
	wantCanceled := func(t *testing.T, out *kms.DecryptOutput, err, want error) {
		t.Helper()
		wantFault(t, out, err, kmsclient.ReasonAttestation, "")
		var of *nsm.Error
		if !errors.As(err, &of) || of.Reason != nsm.ReasonCanceled || !errors.Is(err, want) {
			t.Errorf("error %v, want %v", err, want)
		}
		r.wantNothingSent(t, requests, 0)
	}
	first := newDeadline(t) // its request is at the device
	go func() { <-asked; first.pass() }()
	out, err := client.Decrypt(first, input, attempts(3))
	wantCanceled(t, out, err, context.DeadlineExceeded)

	// Its request waits for the device.
	second, cancel := context.WithCancel(t.Context())
	go cancel()
	out, err = client.Decrypt(second, input, attempts(3))
	if reason(err) == kmsclient.ReasonCanceled { // cancelled before it came so far
		wantFault(t, out, err, kmsclient.ReasonCanceled, "before anything was sent")
	} else {
		wantCanceled(t, out, err, context.Canceled)
	}

	device.heal()
	close(answer)
	out, err = client.Decrypt(t.Context(), input, attempts(1))
	wantSecret(t, 1, out, err)
}

// waitingAttester is an attester that only knows when to stop.
type waitingAttester struct{ asked chan struct{} }

func (a waitingAttester) Attest(ctx context.Context, _ nsm.AttestationRequest) ([]byte, error) {
	a.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAttesterHangs(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	attester := waitingAttester{make(chan struct{})}
	client := r.over(t, attester, kmsclient.Options{})
	requests := len(r.kms.Requests())
	ctx := newDeadline(t)
	go func() { <-attester.asked; ctx.pass() }()
	out, err := client.Decrypt(ctx, input, attempts(3))
	wantFault(t, out, err, kmsclient.ReasonAttestation, "")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	r.wantNothingSent(t, requests, 0)
}
