package nsm

import (
	"errors"
	"io/fs"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	hfnsm "github.com/hf/nsm"
	hfresponse "github.com/hf/nsm/response"
)

func wantReason(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("error %v, want reason %s", err, want)
	}
	return e
}

func TestOpenWithoutDevice(t *testing.T) {
	device, err := openDevice(filepath.Join(t.TempDir(), "nsm"))
	wantReason(t, err, ReasonNoDevice)
	if device != nil || !errors.Is(err, ReasonNoDevice) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, %v; want no device, ReasonNoDevice and the cause", device, err)
	}
	// First where this runs, then the driver, and tests last of all.
	rest := err.Error()
	for _, say := range []string{"does not run inside a Nitro Enclave", "mount /dev", "nsm.ko", "virtio_mmio.ko", "CONFIG_NSM", "nsmtest"} {
		var found bool
		if _, rest, found = strings.Cut(rest, say); !found {
			t.Errorf("%v: does not say %q in its place", err, say)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for errno, want := range map[syscall.Errno]Reason{
		syscall.ENOENT: ReasonNoDevice, syscall.ENXIO: ReasonNoDevice, syscall.ENODEV: ReasonNoDevice,
		syscall.EACCES: ReasonPermission, syscall.EPERM: ReasonPermission, syscall.EMFILE: ReasonDevice,
	} {
		e := wantReason(t, openError("/dev/nsm", &fs.PathError{Op: "open", Path: "/dev/nsm", Err: errno}), want)
		if e.Op != "Open" || !errors.Is(e, errno) || errors.Is(e, ReasonNoDevice) != (want == ReasonNoDevice) {
			t.Errorf("%v: %+v", errno, e)
		}
	}
}

// /dev/null opens, and answers every ioctl with ENOTTY.
func TestNotAnNSM(t *testing.T) {
	device, err := openDevice("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	request := unhex(t, "6b 44657363726962654e534d")
	_, err = device.Send(request)
	e := wantReason(t, err, ReasonDevice)
	if !errors.Is(err, syscall.ENOTTY) || !strings.Contains(e.Detail, "/dev/null is not a Nitro Secure Module") {
		t.Errorf("%v", err)
	}

	for _, bad := range [][]byte{nil, {}, make([]byte, MaxRequestSize+1)} {
		_, err := device.Send(bad)
		if e := wantReason(t, err, ReasonRequestSize); e.Code != CodeInputTooLarge || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	for _, bad := range [][]byte{
		{0xff},
		{0xc1, 0x61, 0x61}, // a time that is a text, which the encoder checks, too
	} {
		_, err = device.Send(bad)
		wantReason(t, err, ReasonInvalidArgument)
	}
	_, err = device.Send(append(request, 0))
	wantReason(t, err, ReasonInvalidArgument)

	// hf/nsm must not see a Close beside a Send; -race watches.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if _, err := device.Send(request); !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, ReasonClosed) {
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Go(func() {
		if err := device.Close(); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	_, err = device.Send(request)
	wantReason(t, err, ReasonClosed)
	if err := device.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestSendErrors(t *testing.T) {
	h := &hardware{path: "/dev/nsm"}
	for errno, want := range map[syscall.Errno]Reason{
		syscall.EMSGSIZE: ReasonRequestSize, syscall.EINTR: ReasonInterrupted, syscall.ETIMEDOUT: ReasonTimeout,
		syscall.ENOTTY: ReasonDevice, syscall.EIO: ReasonDevice,
	} {
		e := wantReason(t, h.sendError(&hfnsm.ErrorIoctlFailed{Errno: errno}), want)
		if !errors.Is(e, errno) || (e.Code == CodeInputTooLarge) != (errno == syscall.EMSGSIZE) || e.Detail == "" {
			t.Errorf("%v: %+v", errno, e)
		}
	}
	wantReason(t, h.sendError(errors.New("cbor: something")), ReasonMalformedResponse)
}

// panicking is a file whose use panics inside hf/nsm, as slicing by an
// impossible response length would.
type panicking struct{}

func (panicking) Fd() uintptr  { panic("slice bounds out of range") }
func (panicking) Close() error { return nil }

func TestSendRecoversPanic(t *testing.T) {
	session, err := hfnsm.OpenSession(hfnsm.Options{
		Open:    func() (hfnsm.FileDescriptor, error) { return panicking{}, nil },
		Syscall: syscall.Syscall,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &hardware{path: "/dev/nsm", session: session}
	for range 2 { // the second time shows that the lock is free again
		_, err := h.Send(unhex(t, "6b 44657363726962654e534d"))
		e := wantReason(t, err, ReasonMalformedResponse)
		if !strings.Contains(e.Error(), "slice bounds out of range") {
			t.Errorf("%v: does not say what happened", e)
		}
	}
}

func TestFromHF(t *testing.T) {
	pcr := make([]byte, 48)
	for _, tt := range []struct {
		in   hfresponse.Response
		want response
	}{
		{hfresponse.Response{Error: "InvalidIndex"}, response{kind: kindError, code: CodeInvalidIndex}},
		{hfresponse.Response{DescribePCR: &hfresponse.DescribePCR{Lock: true, Data: pcr}}, response{kind: kindDescribePCR, lock: true, data: pcr}},
		{hfresponse.Response{ExtendPCR: &hfresponse.ExtendPCR{Data: pcr}}, response{kind: kindExtendPCR, data: pcr}},
		{hfresponse.Response{LockPCR: &hfresponse.LockPCR{}}, response{kind: kindLockPCR}},
		{hfresponse.Response{LockPCRs: &hfresponse.LockPCRs{}}, response{kind: kindLockPCRs}},
		{hfresponse.Response{DescribeNSM: &hfresponse.DescribeNSM{VersionMajor: 1, VersionMinor: 2, VersionPatch: 3, ModuleID: "m", MaxPCRs: 32, LockedPCRs: []uint16{4}, Digest: "SHA384"}},
			response{kind: kindDescribeNSM, describe: describeNSMFields{1, 2, 3, "m", 32, []uint16{4}, "SHA384"}}},
		{hfresponse.Response{Attestation: &hfresponse.Attestation{Document: []byte{1}}}, response{kind: kindAttestation, document: []byte{1}}},
		{hfresponse.Response{GetRandom: &hfresponse.GetRandom{Random: []byte{1}}}, response{kind: kindGetRandom, random: []byte{1}}},
	} {
		got, err := fromHF(tt.in)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v", tt.want.kind, got, err)
		}
		raw, err := got.encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeResponse(raw); err != nil || !reflect.DeepEqual(back, tt.want) {
			t.Errorf("%s through the wire: %+v, %v", tt.want.kind, back, err)
		}
	}
	for _, bad := range []hfresponse.Response{{}, {Error: "InternalError", GetRandom: &hfresponse.GetRandom{Random: []byte{1}}}} {
		if r, err := fromHF(bad); err == nil {
			t.Errorf("%+v gives %+v", bad, r)
		}
	}
}
