package nsmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/keyvouch/keyvouch/nsm"
)

// failing is a device whose first requests fail.
type failing struct {
	nsm.Device
	errs []error
}

func (f *failing) Send(request []byte) ([]byte, error) {
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return nil, err
	}
	return f.Device.Send(request)
}

// throughFile writes a recording and reads it again.
func throughFile(t testing.TB, recorder *Recorder) *Recording {
	t.Helper()
	recording, err := recorder.Recording()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := recording.Write(&b); err != nil {
		t.Fatal(err)
	}
	read, err := ReadRecording(&b)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// A replayed session fails as the recorded one did: the same text, fields and
// errors in the chain.
func TestReplayedErrors(t *testing.T) {
	errMine := errors.New("mine")
	oversized := newNSM(t, Options{})
	_, tooLarge := oversized.Send(nil)
	if err := oversized.Close(); err != nil {
		t.Fatal(err)
	}
	_, closed := oversized.Send([]byte{0})
	targets := []error{
		nsm.ReasonClosed, nsm.ReasonNoDevice, context.Canceled, os.ErrPermission,
		syscall.EINTR, syscall.ETIMEDOUT, syscall.EMSGSIZE, syscall.EIO, syscall.ENOTTY, syscall.EACCES,
	}
	for _, tt := range []struct {
		name string
		err  error
		is   error
	}{
		{"errno", syscall.EIO, syscall.EIO},
		{"wrapped errno", fmt.Errorf("ioctl: %w", syscall.ETIMEDOUT), syscall.ETIMEDOUT},
		{"text", errMine, nil},
		{"interrupted", &nsm.Error{Op: "Send", Reason: nsm.ReasonInterrupted, Detail: "a signal", Err: syscall.EINTR}, syscall.EINTR},
		{"interrupted errno", fmt.Errorf("ioctl: %w", syscall.EINTR), syscall.EINTR},
		{"timeout", &nsm.Error{Op: "Send", Reason: nsm.ReasonTimeout, Detail: "late", Err: syscall.ETIMEDOUT}, syscall.ETIMEDOUT},
		{"too large", tooLarge, syscall.EMSGSIZE},
		{"closed", closed, nsm.ReasonClosed},
		{"no device", &nsm.Error{Op: "Send", Reason: nsm.ReasonNoDevice, Err: fmt.Errorf("%w: gone", nsm.ReasonNoDevice)}, nsm.ReasonNoDevice},
		{"without a cause", &nsm.Error{Op: "Send", Reason: nsm.ReasonMalformedResponse, Detail: "the response"}, nil},
		{"around an nsm.Error", fmt.Errorf("%w: %w", errMine, &nsm.Error{Op: "Send", Reason: nsm.ReasonRequestSize, Code: nsm.CodeInputTooLarge, Detail: "long", Err: syscall.EMSGSIZE}), syscall.EMSGSIZE},
		{"around an nsm.Error without a cause", fmt.Errorf("%w: %w", errMine, &nsm.Error{Op: "Send", Reason: nsm.ReasonDevice}), nil},
		{"two", fmt.Errorf("%w, %w", nsm.ReasonClosed, syscall.EACCES), os.ErrPermission},
	} {
		// LockPCR is never sent twice, so an interruption ends it.
		t.Run(tt.name, func(t *testing.T) {
			if tt.is != nil && !errors.Is(tt.err, tt.is) {
				t.Fatal("the test's own error is not what it should be")
			}
			recorder := NewRecorder(&failing{Device: newNSM(t, Options{}), errs: []error{tt.err}})
			recorded := nsm.NewSession(recorder).LockPCR(t.Context(), 16)
			replayed := nsm.NewSession(throughFile(t, recorder).Replay()).LockPCR(t.Context(), 16)

			var want, got *nsm.Error
			if !errors.As(recorded, &want) || !errors.As(replayed, &got) {
				t.Fatalf("recorded %v, replayed %v", recorded, replayed)
			}
			if got.Op != want.Op || got.Reason != want.Reason || got.Code != want.Code || got.Detail != want.Detail || got.Error() != want.Error() {
				t.Errorf("recorded %+v\nreplayed %+v", want, got)
			}
			if tt.is != nil && !errors.Is(replayed, tt.is) {
				t.Errorf("%v is not %v", replayed, tt.is)
			}
			for _, target := range targets {
				if errors.Is(recorded, target) != errors.Is(replayed, target) {
					t.Errorf("is %v: recorded %t, replayed %t", target, errors.Is(recorded, target), errors.Is(replayed, target))
				}
			}
		})
	}
}

// What a session retried when it was recorded it retries when it is replayed.
func TestReplayOfInterruptedSession(t *testing.T) {
	for name, interruption := range map[string]error{
		"nsm.Error": &nsm.Error{Op: "Send", Reason: nsm.ReasonInterrupted, Err: syscall.EINTR},
		"errno":     syscall.EINTR,
	} {
		t.Run(name, func(t *testing.T) {
			recorder := NewRecorder(&failing{Device: newNSM(t, Options{}), errs: []error{interruption, interruption}})
			results, _, err := session(t.Context(), nsm.NewSession(recorder))
			if err != nil {
				t.Fatal(err)
			}
			recording := throughFile(t, recorder)
			if len(recording.Exchanges) != 11 {
				t.Errorf("%d exchanges, want 9 and two interrupted ones", len(recording.Exchanges))
			}
			again, _, err := session(t.Context(), nsm.NewSession(recording.Replay()))
			if err != nil || !reflect.DeepEqual(again, results) {
				t.Errorf("%v\ngot  %q\nwant %q", err, again, results)
			}
		})
	}
}

// Every name stands for its error, and for no other.
func TestRecordableErrors(t *testing.T) {
	for _, r := range recordable {
		f := failureOf(r.err)
		if f == nil || !slices.Equal(f.Is, []string{r.name}) {
			t.Errorf("%s is recorded as %+v", r.name, f)
			continue
		}
		e := Exchange{Error: r.err.Error(), Failure: f}
		if err := e.replayed(); !errors.Is(err, r.err) || err.Error() != e.Error {
			t.Errorf("%s is replayed as %v", r.name, err)
		}
	}
	if f := failureOf(errors.New("text")); f != nil {
		t.Errorf("%+v", f)
	}
}

const oneFailure = `{"format":"keyvouch-nsm-recording/2","started":"2026-01-01T00:00:00Z","exchanges":[{"at":"2026-01-01T00:00:00Z","request":"00","error":"nsm: Send: late: timed out","failure":{"op":"Send","reason":"timeout","detail":"late","cause":"timed out","is":["ETIMEDOUT"]}}]}`

// Version 1 knew only the text of an error.
func TestVersion1(t *testing.T) {
	text := strings.NewReplacer("recording/2", "recording/1", `"response":"01"`, `"error":"message too long"`).Replace(oneExchange)
	recording, err := ReadRecording(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = recording.Replay().Send([]byte{0})
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonRecorded || err.Error() != "message too long" || errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("%v", err)
	}
}

func TestReadFailureRefuses(t *testing.T) {
	if _, err := ReadRecording(strings.NewReader(oneFailure)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"version 1":        {"recording/2", "recording/1"},
		"another name":     {`"ETIMEDOUT"`, `"ETIMEDOUT","ENOWAY"`},
		"no reason":        {`"reason":"timeout",`, ``},
		"unknown field":    {`"op"`, `"errno":4,"op"`},
		"without an error": {`"error":"nsm: Send: late: timed out"`, `"response":"01"`},
	} {
		text := strings.Replace(oneFailure, change[0], change[1], 1)
		recording, err := ReadRecording(strings.NewReader(text))
		var e *Error
		if !errors.As(err, &e) || e.Reason != ReasonRecording || recording != nil {
			t.Errorf("%s: %v, %v", name, recording, err)
		}
	}
}

// A recording is a snapshot: neither the recorder's nor a replay's bytes are
// those of the next.
func TestRecordingsShareNothing(t *testing.T) {
	recorder := NewRecorder(&failing{Device: newNSM(t, Options{}), errs: []error{syscall.EIO}})
	request := unhex(t, "6b 44657363726962654e534d")
	for range 2 {
		recorder.Send(request)
	}
	first, err := recorder.Recording()
	if err != nil {
		t.Fatal(err)
	}
	device := first.Replay()
	first.Exchanges[0].Request[0] ^= 1
	first.Exchanges[0].Failure.Is[0] = "EINTR"
	first.Exchanges[1].Response[0] ^= 1
	second, err := recorder.Recording()
	if err != nil {
		t.Fatal(err)
	}
	if e := second.Exchanges; !bytes.Equal(e[0].Request, request) || e[0].Failure.Is[0] != "EIO" || e[1].Response[0] != 0xa1 {
		t.Errorf("the recorder's exchanges changed: %+v", e)
	}
	if _, err := device.Send(request); !errors.Is(err, syscall.EIO) {
		t.Errorf("the replay changed: %v", err)
	}
	if response, err := device.Send(request); err != nil || response[0] != 0xa1 {
		t.Errorf("the replay changed: %x, %v", response, err)
	}
}
