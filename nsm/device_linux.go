package nsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/fxamacker/cbor/v2"
	hfnsm "github.com/hf/nsm"
	hfresponse "github.com/hf/nsm/response"
)

const devicePath = "/dev/nsm"

// OpenDevice opens /dev/nsm as a bare [Device], for recorders and tests; an
// application calls [Open]. The device is safe for concurrent use. Outside an
// enclave it fails with [ReasonNoDevice].
//
// A request goes to the NSM byte for byte. A response is not the NSM's very
// bytes: the library underneath, github.com/hf/nsm, hands out only a decoded
// response, which is encoded again here in the field order of AWS's own API
// structs. What differs is CBOR's encoding (map order, unknown fields), never a
// value; the attestation document is a byte string and stays as it is. A field
// the NSM left out shows as its zero value.
func OpenDevice() (Device, error) {
	return openDevice(devicePath)
}

func openDevice(path string) (Device, error) {
	session, err := hfnsm.OpenSession(hfnsm.Options{
		Open: func() (hfnsm.FileDescriptor, error) { return os.Open(path) },
		// Never a Go function here: hf/nsm passes the address of a stack
		// variable as a uintptr, which is sound only for syscall.Syscall.
		Syscall: syscall.Syscall,
	})
	if err != nil {
		return nil, openError(path, err)
	}
	return &hardware{path: path, session: session}, nil
}

// openError explains why the device could not be opened.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return &Error{
			Op: "Open", Reason: ReasonNoDevice, Err: err,
			Detail: "this process does not run inside a Nitro Enclave (nitro-cli run-enclave), or the enclave's kernel has not loaded its nsm driver: " +
				"let its init mount /dev and load nsm.ko, after virtio_mmio.ko where that is a module (package nsm/boot does both), or use a kernel with CONFIG_NSM and CONFIG_VIRTIO_MMIO built in; " +
				"for tests outside an enclave use the package nsmtest",
		}
	case errors.Is(err, fs.ErrPermission):
		return &Error{
			Op: "Open", Reason: ReasonPermission, Err: err,
			Detail: "this process may not open the device; run as a user who may, or chmod 0666 it in the enclave's init",
		}
	}
	return &Error{Op: "Open", Reason: ReasonDevice, Err: err, Detail: "the device cannot be opened"}
}

// hardware is the NSM behind the Linux driver.
type hardware struct {
	path string

	mu      sync.Mutex     // hf/nsm's Close must not run beside its Send
	session *hfnsm.Session // nil once closed
}

// verbatim is a request for hf/nsm that is encoded already.
type verbatim []byte

// Encoded returns the request as raw CBOR, which the encoder copies unchanged.
func (v verbatim) Encoded() any { return cbor.RawMessage(v) }

func (h *hardware) Send(request []byte) ([]byte, error) {
	// The driver answers EMSGSIZE to a longer one; an empty one blocks the
	// ioctl for minutes, and hf/nsm would panic on it.
	if len(request) == 0 || len(request) > MaxRequestSize {
		return nil, &Error{
			Op: "Send", Reason: ReasonRequestSize, Code: CodeInputTooLarge, Err: syscall.EMSGSIZE,
			Detail: fmt.Sprintf("a request of %d bytes, want 1 to %d", len(request), MaxRequestSize),
		}
	}
	// The check is the one that hf/nsm's encoder will make, so that what it refuses
	// is not taken for a fault of the NSM.
	if _, err := cbor.Marshal(cbor.RawMessage(request)); err != nil {
		return nil, &Error{Op: "Send", Reason: ReasonInvalidArgument, Detail: "the request is not one well-formed CBOR item", Err: err}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == nil {
		return nil, &Error{Op: "Send", Reason: ReasonClosed, Detail: "the device was closed"}
	}
	decoded, err := h.sendLocked(request)
	if err != nil {
		return nil, h.sendError(err)
	}
	response, err := fromHF(decoded)
	if err != nil {
		return nil, &Error{Op: "Send", Reason: ReasonMalformedResponse, Detail: "the NSM's response", Err: err}
	}
	return response.encode()
}

// sendLocked calls hf/nsm, which slices by a length that the driver reports
// and panics if that is more than its buffer holds.
func (h *hardware) sendLocked(request []byte) (_ hfresponse.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{Reason: ReasonMalformedResponse, Detail: "the NSM library panicked, as it does on an impossible response length", Err: fmt.Errorf("%v", p)}
		}
	}()
	return h.session.Send(verbatim(request))
}

// sendError explains why hf/nsm has no response.
func (h *hardware) sendError(err error) error {
	var failed *hfnsm.ErrorIoctlFailed
	if !errors.As(err, &failed) {
		var own *Error
		if errors.As(err, &own) {
			return withOp("Send", err)
		}
		// What is left is that the response was not CBOR of a known shape.
		return &Error{Op: "Send", Reason: ReasonMalformedResponse, Detail: "the NSM's response", Err: err}
	}
	e := &Error{Op: "Send", Reason: ReasonDevice, Err: failed.Errno}
	switch failed.Errno {
	case syscall.EMSGSIZE:
		e.Reason, e.Code, e.Detail = ReasonRequestSize, CodeInputTooLarge, "the driver finds the request too long"
	case syscall.EINTR:
		e.Reason, e.Detail = ReasonInterrupted, "a signal interrupted the request"
	case syscall.ETIMEDOUT:
		e.Reason, e.Detail = ReasonTimeout, "the NSM did not answer in the 120 seconds that the driver waits"
	case syscall.ENOTTY:
		e.Detail = h.path + " is not a Nitro Secure Module: something else is mounted or linked there"
	default:
		e.Detail = "the ioctl on " + h.path + " failed"
	}
	return e
}

func (h *hardware) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == nil {
		return nil
	}
	err := h.session.Close()
	h.session = nil
	if err != nil {
		return &Error{Op: "Close", Reason: ReasonDevice, Detail: "closing " + h.path, Err: err}
	}
	return nil
}

// fromHF takes over a response that hf/nsm decoded. It must be exactly one.
func fromHF(r hfresponse.Response) (response, error) {
	var found []response
	if r.Error != "" {
		found = append(found, response{kind: kindError, code: Code(r.Error)})
	}
	if p := r.DescribePCR; p != nil {
		found = append(found, response{kind: kindDescribePCR, lock: p.Lock, data: p.Data})
	}
	if p := r.ExtendPCR; p != nil {
		found = append(found, response{kind: kindExtendPCR, data: p.Data})
	}
	if r.LockPCR != nil {
		found = append(found, response{kind: kindLockPCR})
	}
	if r.LockPCRs != nil {
		found = append(found, response{kind: kindLockPCRs})
	}
	if d := r.DescribeNSM; d != nil {
		found = append(found, response{kind: kindDescribeNSM, describe: describeNSMFields{
			major: d.VersionMajor, minor: d.VersionMinor, patch: d.VersionPatch,
			moduleID: d.ModuleID, maxPCRs: d.MaxPCRs, lockedPCRs: d.LockedPCRs, digest: string(d.Digest),
		}})
	}
	if a := r.Attestation; a != nil {
		found = append(found, response{kind: kindAttestation, document: a.Document})
	}
	if g := r.GetRandom; g != nil {
		found = append(found, response{kind: kindGetRandom, random: g.Random})
	}
	if len(found) != 1 {
		return response{}, fmt.Errorf("%d known answers in one response, want 1", len(found))
	}
	return found[0], nil
}
