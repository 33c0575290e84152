package nsm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"syscall"

	"github.com/hf/nsm/request"

	"github.com/keyvouch/keyvouch/attestation/pcr"
)

// Session talks to one Nitro Secure Module. It is safe for concurrent use,
// Close included. One request is at the device at a time, as the driver
// serializes them anyway; the others wait, and stop waiting when their context
// ends.
//
// When a context ends while its request is at the device, the call returns at
// once with an error that wraps the context's; the request itself cannot be
// called back, so the next one waits until the driver lets go of it (at most
// 120 seconds). An ExtendPCR, LockPCR or LockPCRs abandoned in this way may
// have taken effect.
//
// Every error is an *[Error].
type Session struct {
	device  Device
	slot    chan struct{} // full while a request is at the device
	closing chan struct{} // closed by Close

	closeOnce sync.Once
	closeErr  error
}

// Open opens /dev/nsm, the Nitro Secure Module of the enclave this process
// runs in. Outside an enclave it fails with [ReasonNoDevice].
func Open() (*Session, error) {
	device, err := OpenDevice()
	if err != nil {
		return nil, err
	}
	return NewSession(device), nil
}

// NewSession returns a session over device, which it owns from then on: Close
// closes it. Use it with a software NSM or a recorder from the package
// nsmtest; an application calls [Open].
func NewSession(device Device) *Session {
	return &Session{
		device:  device,
		slot:    make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
}

// AttestationRequest says what the NSM shall sign into an attestation
// document, beside the PCRs and the module ID. Each field has at most
// [MaxFieldSize] bytes. A nil field is absent (null in the document); one that
// is empty but not nil is sent, and signed by hardware, as an empty byte
// string.
type AttestationRequest struct {
	// UserData is any data that the document shall vouch for.
	UserData []byte

	// Nonce is the challenge of who will verify the document, as proof that
	// it is fresh.
	Nonce []byte

	// PublicKey is a key that the reader of the document may encrypt to. AWS
	// KMS expects an RSA key as DER of a SubjectPublicKeyInfo; the NSM itself
	// does not parse it.
	PublicKey []byte
}

// Attest returns an attestation document: the CBOR of a COSE_Sign1 (RFC 9052,
// section 4.2), signed by the NSM. A document is not secret.
//
// A field over [MaxFieldSize] fails with [ReasonRequestSize] before anything is
// sent.
func (s *Session) Attest(ctx context.Context, r AttestationRequest) ([]byte, error) {
	const op = "Attest"
	for _, f := range []struct {
		name  string
		value []byte
	}{{"UserData", r.UserData}, {"Nonce", r.Nonce}, {"PublicKey", r.PublicKey}} {
		if err := checkField(f.name, f.value); err != nil {
			return nil, withOp(op, err)
		}
	}
	res, err := s.do(ctx, op, kindAttestation, &request.Attestation{UserData: r.UserData, Nonce: r.Nonce, PublicKey: r.PublicKey})
	if err != nil {
		return nil, err
	}
	return res.document, nil
}

// Description is what the NSM tells about itself.
type Description struct {
	// VersionMajor, VersionMinor and VersionPatch are the version of the NSM
	// API.
	VersionMajor, VersionMinor, VersionPatch int

	// ModuleID names the NSM of this enclave, "i-…-enc…": the parent's
	// instance ID and the enclave's ID. It is also in every document.
	ModuleID string

	// MaxPCRs is the number of PCRs, 32 on hardware. They are counted from 0.
	MaxPCRs int

	// LockedPCRs are the indexes of the locked PCRs, in the NSM's order.
	LockedPCRs []int

	// Digest is the hash function of the PCRs, "SHA384" on hardware.
	Digest string
}

// Describe asks the NSM for its version, identity and PCR bank.
func (s *Session) Describe(ctx context.Context) (Description, error) {
	res, err := s.do(ctx, "Describe", kindDescribeNSM, &request.DescribeNSM{})
	if err != nil {
		return Description{}, err
	}
	d := res.describe
	locked := make([]int, len(d.lockedPCRs))
	for i, index := range d.lockedPCRs {
		locked[i] = int(index)
	}
	return Description{
		VersionMajor: int(d.major), VersionMinor: int(d.minor), VersionPatch: int(d.patch),
		ModuleID: d.moduleID, MaxPCRs: int(d.maxPCRs), LockedPCRs: locked, Digest: d.digest,
	}, nil
}

// Register is one platform configuration register.
type Register struct {
	// Index is the register's number.
	Index int

	// Value is the register's content.
	Value pcr.Value

	// Locked tells that the register cannot change until the enclave ends.
	Locked bool
}

// DescribePCR reads a PCR. An index the NSM does not have fails with
// [ReasonNSM] and [CodeInvalidIndex] (above 255 an NSM may call it
// [CodeInvalidOperation]).
func (s *Session) DescribePCR(ctx context.Context, index int) (Register, error) {
	const op = "DescribePCR"
	wire, err := checkIndex(index)
	if err != nil {
		return Register{}, withOp(op, err)
	}
	res, err := s.do(ctx, op, kindDescribePCR, &request.DescribePCR{Index: wire})
	if err != nil {
		return Register{}, err
	}
	return Register{Index: index, Value: pcr.Value(res.data), Locked: res.lock}, nil
}

// ExtendPCR sets a PCR to SHA384(old value ‖ data) and returns the new value.
// PCRs 16 and up can be extended until they are locked; a locked one fails
// with [ReasonNSM] and [CodeReadOnlyIndex]. The whole request must fit
// [MaxRequestSize], which leaves about 4060 bytes for data; to measure more,
// extend with its hash. Empty data extends too.
//
// It is not repeated when interrupted: see [ReasonInterrupted]. After any
// error but [ReasonNSM], [ReasonInvalidArgument], [ReasonRequestSize] and
// [ReasonClosed] read the PCR before trying again, because extending twice
// gives another value.
func (s *Session) ExtendPCR(ctx context.Context, index int, data []byte) (pcr.Value, error) {
	const op = "ExtendPCR"
	wire, err := checkIndex(index)
	if err != nil {
		return pcr.Value{}, withOp(op, err)
	}
	if len(data) > MaxRequestSize {
		return pcr.Value{}, &Error{Op: op, Reason: ReasonRequestSize, Detail: fmt.Sprintf(
			"data is %d bytes, and a whole request may have %d; extend the PCR with a hash of the data", len(data), MaxRequestSize)}
	}
	if data == nil {
		data = []byte{} // nil would be sent as null, which the NSM does not take here
	}
	res, err := s.do(ctx, op, kindExtendPCR, &request.ExtendPCR{Index: wire, Data: data})
	if err != nil {
		return pcr.Value{}, err
	}
	return pcr.Value(res.data), nil
}

// LockPCR locks a PCR until the enclave ends. Locking one that is locked
// already fails with [ReasonNSM] and [CodeReadOnlyIndex].
func (s *Session) LockPCR(ctx context.Context, index int) error {
	const op = "LockPCR"
	wire, err := checkIndex(index)
	if err != nil {
		return withOp(op, err)
	}
	_, err = s.do(ctx, op, kindLockPCR, &request.LockPCR{Index: wire})
	return err
}

// LockPCRs locks the PCRs 0 to count−1 until the enclave ends. Those that are
// locked already stay so and are no error. More than the NSM has is one.
func (s *Session) LockPCRs(ctx context.Context, count int) error {
	const op = "LockPCRs"
	if count < 1 || count > math.MaxUint16 {
		return &Error{Op: op, Reason: ReasonInvalidArgument, Detail: fmt.Sprintf(
			"count %d: want 1 to the number of PCRs that Describe tells (32 on hardware); it locks the PCRs below count", count)}
	}
	_, err := s.do(ctx, op, kindLockPCRs, &request.LockPCRs{Range: uint16(count)})
	return err
}

// Close waits for the request at the device, if any, and closes the device.
// Calls that wait their turn, and later ones, fail with [ReasonClosed]. Closing
// again does nothing and returns what the first Close returned.
func (s *Session) Close() error {
	if s == nil || s.device == nil {
		return nil
	}
	s.closeOnce.Do(func() {
		close(s.closing)
		s.slot <- struct{}{} // kept for good: nobody uses the device again
		if err := s.device.Close(); err != nil {
			s.closeErr = withOp("Close", err)
		}
	})
	return s.closeErr
}

// do sends a request and returns the response, which is of the kind wanted.
func (s *Session) do(ctx context.Context, op, kind string, r request.Request) (response, error) {
	encoded, err := encodeRequest(r)
	if err != nil {
		return response{}, withOp(op, err)
	}
	raw, err := s.exchange(ctx, op, kind, encoded)
	if err != nil {
		return response{}, unsureOf(kind, withOp(op, err))
	}
	res, err := decodeResponse(raw)
	if err != nil {
		return response{}, unsureOf(kind, &Error{Op: op, Reason: ReasonMalformedResponse, Detail: "the NSM's response", Err: err})
	}
	if res.kind == kindError {
		return response{}, &Error{Op: op, Reason: ReasonNSM, Code: res.code, Detail: res.code.advice()}
	}
	if res.kind != kind {
		return response{}, unsureOf(kind, &Error{Op: op, Reason: ReasonMalformedResponse, Detail: fmt.Sprintf("the NSM answered with %s, want %s", res.kind, kind)})
	}
	return res, nil
}

// exchange has one request at the device, and gives up waiting when ctx ends.
func (s *Session) exchange(ctx context.Context, op, kind string, encoded []byte) ([]byte, error) {
	if s == nil || s.device == nil {
		return nil, &Error{Op: op, Reason: ReasonNoDevice, Detail: "the session has no device; use Open or NewSession"}
	}
	if err := s.acquire(ctx, op); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		defer s.release()
		return s.send(kind, encoded)
	}

	type answer struct {
		raw []byte
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		// The ioctl cannot be interrupted from here, so this goroutine, not
		// the caller, waits for its end before the next request may go.
		raw, err := s.send(kind, encoded)
		s.release()
		answers <- answer{raw, err}
	}()
	select {
	case a := <-answers:
		return a.raw, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers: // both were ready: the work is done, so say so
		return a.raw, a.err
	default:
	}
	return nil, &Error{Op: op, Reason: ReasonCanceled, Detail: "the context ended while the request was at the NSM", Err: ctx.Err()}
}

// acquire waits for the device to be free.
func (s *Session) acquire(ctx context.Context, op string) error {
	closed := &Error{Op: op, Reason: ReasonClosed, Detail: "the session was closed; open another"}
	canceled := func() error {
		return &Error{Op: op, Reason: ReasonCanceled, Detail: "the context ended before the request was sent", Err: ctx.Err(), unsent: true}
	}
	if s.isClosing() {
		return closed
	}
	if ctx.Err() != nil {
		return canceled()
	}
	select {
	case s.slot <- struct{}{}:
	case <-s.closing:
		return closed
	case <-ctx.Done():
		return canceled()
	}
	// select picks at random among what is ready, so look again.
	switch {
	case s.isClosing():
		s.release()
		return closed
	case ctx.Err() != nil:
		s.release()
		return canceled()
	}
	return nil
}

func (s *Session) release() { <-s.slot }

func (s *Session) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// send sends a request, again if a signal interrupted it and it is one that
// changes nothing.
func (s *Session) send(kind string, encoded []byte) ([]byte, error) {
	for try := 1; ; try++ {
		// A copy, so that a device that scribbles on it cannot change what is
		// sent next time.
		raw, err := s.device.Send(slices.Clone(encoded))
		if err == nil {
			return raw, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, err
		}
		if changesPCRs(kind) || try == maxInterruptedTries {
			return nil, &Error{Reason: ReasonInterrupted, Detail: "a signal interrupted the request", Err: err}
		}
	}
}

// changesPCRs tells whether a request changes the NSM's state, so that sending
// it twice differs from sending it once.
func changesPCRs(kind string) bool {
	return kind == kindExtendPCR || kind == kindLockPCR || kind == kindLockPCRs
}

// unsureOf adds to an error, after which nobody knows whether the NSM carried
// out the request, what to do next.
func unsureOf(kind string, e *Error) *Error {
	if !changesPCRs(kind) {
		return e
	}
	switch e.Reason {
	case ReasonInterrupted, ReasonTimeout, ReasonDevice, ReasonMalformedResponse:
	case ReasonCanceled:
		if e.unsent {
			return e
		}
	default:
		return e
	}
	e.Detail += "; the PCR may have changed: read it with DescribePCR before trying again"
	return e
}
