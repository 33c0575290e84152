package nsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/keyvouch/keyvouch/attestation/pcr"
)

// fake is a device whose answers a test decides.
type fake struct {
	send   func(request []byte) ([]byte, error)
	busy   atomic.Int32
	sent   atomic.Int32
	closed atomic.Int32
}

func (f *fake) Send(request []byte) ([]byte, error) {
	if f.busy.Add(1) > 1 {
		panic("two requests at the device at once")
	}
	defer f.busy.Add(-1)
	if f.closed.Load() > 0 {
		panic("a request after Close")
	}
	f.sent.Add(1)
	return f.send(request)
}

func (f *fake) Close() error {
	if f.busy.Load() > 0 {
		panic("Close beside a request")
	}
	if f.closed.Add(1) > 1 {
		panic("closed twice")
	}
	return nil
}

func answering(t testing.TB, hex string) *fake {
	response := unhex(t, hex)
	return &fake{send: func([]byte) ([]byte, error) { return bytes.Clone(response), nil }}
}

func failing(err error) *fake {
	return &fake{send: func([]byte) ([]byte, error) { return nil, err }}
}

func reason(err error) Reason {
	var e *Error
	if !errors.As(err, &e) {
		return Reason(fmt.Sprintf("not an *Error: %v", err))
	}
	return e.Reason
}

const lockPCRs, lockPCR = "68 4c6f636b50435273", "67 4c6f636b504352"

// ops are all operations, each with arguments that reach the device.
var ops = []struct {
	name    string
	request string
	changes bool
	call    func(context.Context, *Session) (any, error)
}{
	{"Attest", "Attestation", false, func(ctx context.Context, s *Session) (any, error) {
		return s.Attest(ctx, AttestationRequest{Nonce: []byte("n")})
	}},
	{"Describe", "DescribeNSM", false, func(ctx context.Context, s *Session) (any, error) { return s.Describe(ctx) }},
	{"DescribePCR", "DescribePCR", false, func(ctx context.Context, s *Session) (any, error) { return s.DescribePCR(ctx, 0) }},
	{"ExtendPCR", "ExtendPCR", true, func(ctx context.Context, s *Session) (any, error) { return s.ExtendPCR(ctx, 16, []byte("data")) }},
	{"LockPCR", "LockPCR", true, func(ctx context.Context, s *Session) (any, error) { return nil, s.LockPCR(ctx, 16) }},
	{"LockPCRs", "LockPCRs", true, func(ctx context.Context, s *Session) (any, error) { return nil, s.LockPCRs(ctx, 32) }},
	{"Read", "GetRandom", false, func(_ context.Context, s *Session) (any, error) { return s.Read(make([]byte, 8)) }},
}

// Whatever goes wrong, every operation says so in the same way and gives no
// value.
func TestEveryOperationFails(t *testing.T) {
	cause := errors.New("cause")
	for _, tt := range []struct {
		name   string
		device *fake
		reason Reason
		code   Code
		unsure bool // whether a PCR may have changed
	}{
		{"refused", answering(t, "a1 654572726f72 6d526561644f6e6c79496e646578"), ReasonNSM, CodeReadOnlyIndex, false},
		{"refused for an unknown reason", answering(t, "a1 654572726f72 634e6577"), ReasonNSM, "New", false},
		{"device fails", failing(cause), ReasonDevice, "", true},
		{"device fails with a reason", failing(&Error{Op: "Send", Reason: ReasonTimeout, Err: syscall.ETIMEDOUT}), ReasonTimeout, "", true},
		{"too long for the driver", failing(&Error{Op: "Send", Reason: ReasonRequestSize, Code: CodeInputTooLarge, Err: syscall.EMSGSIZE}), ReasonRequestSize, CodeInputTooLarge, false},
		{"nothing", answering(t, ""), ReasonMalformedResponse, "", true},
		{"not CBOR", answering(t, "ff"), ReasonMalformedResponse, "", true},
		{"too long", answering(t, strings.Repeat("00", MaxResponseSize+1)), ReasonMalformedResponse, "", true},
		{"interrupted for ever", failing(fmt.Errorf("ioctl: %w", syscall.EINTR)), ReasonInterrupted, "", true},
	} {
		for _, op := range ops {
			t.Run(tt.name+"/"+op.name, func(t *testing.T) {
				s := NewSession(tt.device)
				value, err := op.call(context.Background(), s)
				var e *Error
				if !errors.As(err, &e) || e.Op != op.name || e.Reason != tt.reason || e.Code != tt.code {
					t.Fatalf("%v (%+v), want %s of %s", err, e, tt.reason, op.name)
				}
				switch v := value.(type) {
				case nil:
				case []byte:
					if v != nil {
						t.Errorf("a value beside the error: %x", v)
					}
				case int:
					if v != 0 {
						t.Errorf("%d bytes beside the error", v)
					}
				case pcr.Value:
					if !v.IsZero() {
						t.Errorf("a value beside the error: %v", v)
					}
				case Register:
					if v != (Register{}) {
						t.Errorf("a value beside the error: %+v", v)
					}
				case Description:
					if v.ModuleID != "" {
						t.Errorf("a value beside the error: %+v", v)
					}
				}
				if says := strings.Contains(err.Error(), "read it with DescribePCR"); says != (tt.unsure && op.changes) {
					t.Errorf("%v: advice to read the PCR: %t", err, says)
				}
			})
		}
	}
}

// What a device wraps around an *Error is for its caller to find.
func TestDeviceWrapsAnError(t *testing.T) {
	errMine := errors.New("mine")
	device := failing(fmt.Errorf("%w: %w", errMine, &Error{
		Op: "Send", Reason: ReasonRequestSize, Code: CodeInputTooLarge, Detail: "detail", Err: syscall.EMSGSIZE,
	}))
	for _, op := range ops {
		_, err := op.call(context.Background(), NewSession(device))
		if !errors.Is(err, errMine) || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: %v lost a part of its chain", op.name, err)
		}
		var e *Error
		if !errors.As(err, &e) || e.Op != op.name || e.Reason != ReasonRequestSize || e.Code != CodeInputTooLarge || e.Detail != "detail" {
			t.Errorf("%s: %+v", op.name, e)
		}
	}
	// Also what Close returns.
	s := NewSession(&closeFails{err: fmt.Errorf("%w: %w", errMine, &Error{Op: "Close", Reason: ReasonDevice})})
	if err := s.Close(); !errors.Is(err, errMine) || reason(err) != ReasonDevice {
		t.Errorf("Close: %v", err)
	}
	// An *Error of a device with nothing around it is not repeated.
	_, err := NewSession(failing(&Error{Op: "Send", Reason: ReasonTimeout, Detail: "late", Err: syscall.ETIMEDOUT})).Describe(t.Context())
	if want := "nsm: Describe: timeout: late: " + syscall.ETIMEDOUT.Error(); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// The answer to another request is no answer.
func TestAnswerToAnotherRequest(t *testing.T) {
	for _, op := range ops {
		other := lockPCR
		if op.name == "LockPCR" {
			other = lockPCRs
		}
		if value, err := op.call(context.Background(), NewSession(answering(t, other))); reason(err) != ReasonMalformedResponse {
			t.Errorf("%s: %v, %v", op.name, value, err)
		}
	}
}

func TestArguments(t *testing.T) {
	long := make([]byte, MaxFieldSize+1)
	ctx := context.Background()
	for _, tt := range []struct {
		name   string
		call   func(*Session) error
		reason Reason
	}{
		{"user data", func(s *Session) error { _, err := s.Attest(ctx, AttestationRequest{UserData: long}); return err }, ReasonRequestSize},
		{"nonce", func(s *Session) error { _, err := s.Attest(ctx, AttestationRequest{Nonce: long}); return err }, ReasonRequestSize},
		{"public key", func(s *Session) error { _, err := s.Attest(ctx, AttestationRequest{PublicKey: long}); return err }, ReasonRequestSize},
		{"describe -1", func(s *Session) error { _, err := s.DescribePCR(ctx, -1); return err }, ReasonInvalidArgument},
		{"describe 65536", func(s *Session) error { _, err := s.DescribePCR(ctx, 65536); return err }, ReasonInvalidArgument},
		{"extend -1", func(s *Session) error { _, err := s.ExtendPCR(ctx, -1, nil); return err }, ReasonInvalidArgument},
		{"extend with 4070", func(s *Session) error { _, err := s.ExtendPCR(ctx, 16, make([]byte, 4070)); return err }, ReasonRequestSize},
		{"extend with 1 MiB", func(s *Session) error { _, err := s.ExtendPCR(ctx, 16, make([]byte, 1<<20)); return err }, ReasonRequestSize},
		{"lock 65536", func(s *Session) error { return s.LockPCR(ctx, 65536) }, ReasonInvalidArgument},
		{"lock none", func(s *Session) error { return s.LockPCRs(ctx, 0) }, ReasonInvalidArgument},
		{"lock -1", func(s *Session) error { return s.LockPCRs(ctx, -1) }, ReasonInvalidArgument},
		{"lock 65536 PCRs", func(s *Session) error { return s.LockPCRs(ctx, 65536) }, ReasonInvalidArgument},
	} {
		t.Run(tt.name, func(t *testing.T) {
			device := answering(t, lockPCR)
			if err := tt.call(NewSession(device)); reason(err) != tt.reason {
				t.Errorf("%v, want %s", err, tt.reason)
			}
			if device.sent.Load() != 0 {
				t.Error("reached the device")
			}
		})
	}
}

// A nil slice must not become the null that the NSM does not take here.
func TestExtendPCRWithNothing(t *testing.T) {
	device := answering(t, "a1 69457874656e64504352 a1"+dataField+"5830"+zero48)
	inner := device.send
	device.send = func(request []byte) ([]byte, error) {
		if want := unhex(t, "a1 69457874656e64504352 a2 65696e646578 14 6464617461 40"); !bytes.Equal(request, want) {
			t.Errorf("got  %x\nwant %x", request, want)
		}
		return inner(request)
	}
	if _, err := NewSession(device).ExtendPCR(context.Background(), 20, nil); err != nil {
		t.Error(err)
	}
}

func TestInterruptedRequests(t *testing.T) {
	responses := map[string]string{
		"Attest":      "a1 6b4174746573746174696f6e a1 68646f63756d656e74 42 8440",
		"Describe":    describeNSM,
		"DescribePCR": describePCRHead + "a2" + lockField + "f5" + dataField + "5830" + zero48,
		"Read":        "a1 6947657452616e646f6d a1 6672616e646f6d 48 0102030405060708",
	}
	for _, op := range ops {
		var device *fake
		device = &fake{send: func(request []byte) ([]byte, error) {
			if device.sent.Load() < maxInterruptedTries {
				clear(request) // what a device does to its copy must not matter
				return nil, syscall.EINTR
			}
			if !bytes.Contains(request, []byte(op.request)) {
				t.Errorf("%s sends %x", op.name, request)
			}
			return unhex(t, responses[op.name]), nil
		}}
		_, err := op.call(context.Background(), NewSession(device))
		if op.changes {
			if reason(err) != ReasonInterrupted || !errors.Is(err, syscall.EINTR) || device.sent.Load() != 1 {
				t.Errorf("%s: %v after %d tries, want one try", op.name, err, device.sent.Load())
			}
		} else if err != nil || device.sent.Load() != maxInterruptedTries {
			t.Errorf("%s: %v after %d tries", op.name, err, device.sent.Load())
		}
	}
}

func TestRead(t *testing.T) {
	giving := func(n int) *fake {
		var next byte
		return &fake{send: func([]byte) ([]byte, error) {
			b := make([]byte, n)
			for i := range b {
				next++
				b[i] = next
			}
			return response{kind: kindGetRandom, random: b}.encode()
		}}
	}
	for _, tt := range []struct {
		size, each, sent int
		reason           Reason
	}{
		{0, 256, 0, ""},
		{1, 256, 1, ""},
		{256, 256, 1, ""},
		{257, 256, 2, ""},
		{10_000, 256, 40, ""},
		{1000, 100, 10, ""},
		{1000, 1, 20, ReasonMalformedResponse},
		{8, 1, 8, ""},
	} {
		t.Run(fmt.Sprintf("%d by %d", tt.size, tt.each), func(t *testing.T) {
			device := giving(tt.each)
			p := make([]byte, tt.size)
			n, err := NewSession(device).Read(p)
			if int(device.sent.Load()) != tt.sent {
				t.Errorf("%d requests, want %d", device.sent.Load(), tt.sent)
			}
			if tt.reason != "" {
				if reason(err) != tt.reason || n != tt.sent*tt.each {
					t.Errorf("%d, %v", n, err)
				}
				return
			}
			if n != tt.size || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
			if tt.each == 256 {
				for i := range p {
					if p[i] != byte(i+1) {
						t.Fatalf("byte %d is %d: out of order or missing", i, p[i])
					}
				}
			}
		})
	}
	var _ io.Reader = NewSession(nil)
}

func TestNoDevice(t *testing.T) {
	for name, s := range map[string]*Session{"nil": nil, "zero": {}, "over nil": NewSession(nil)} {
		for _, op := range ops {
			if value, err := op.call(context.Background(), s); !errors.Is(err, ReasonNoDevice) {
				t.Errorf("%s session, %s: %v, %v", name, op.name, value, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s session: Close: %v", name, err)
		}
	}
}

// blocking is a device that holds every request until it is let go.
func blocking(t testing.TB) (device *fake, letGo chan struct{}) {
	letGo = make(chan struct{})
	device = answering(t, lockPCR)
	answer := device.send
	device.send = func(request []byte) ([]byte, error) {
		<-letGo
		return answer(request)
	}
	return device, letGo
}

func TestContextEndsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, letGo := blocking(t)
		s := NewSession(device)
		ctx, cancel := context.WithCancel(t.Context())
		first := make(chan error, 1)
		go func() { first <- s.LockPCR(ctx, 16) }()
		synctest.Wait()
		if device.busy.Load() != 1 {
			t.Fatal("the request is not at the device")
		}
		cancel()
		err := <-first
		if reason(err) != ReasonCanceled || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "may have changed") {
			t.Errorf("%v", err)
		}

		// The device is still busy: the next call waits, and may give up.
		ctx, cancel = context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- s.LockPCR(ctx, 17) }()
		synctest.Wait()
		if device.sent.Load() != 1 {
			t.Fatal("a second request went beside the first")
		}
		cancel()
		if err := <-second; reason(err) != ReasonCanceled || strings.Contains(err.Error(), "may have changed") {
			t.Errorf("%v", err)
		}

		// When the device lets go, the next call goes on.
		third := make(chan error, 1)
		go func() { third <- s.LockPCR(context.Background(), 18) }()
		synctest.Wait()
		close(letGo)
		if err := <-third; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestContextEndedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, op := range ops {
		if op.name == "Read" {
			continue
		}
		device := answering(t, lockPCR)
		if _, err := op.call(ctx, NewSession(device)); reason(err) != ReasonCanceled || !errors.Is(err, context.Canceled) || device.sent.Load() != 0 {
			t.Errorf("%s: %v", op.name, err)
		}
	}
}

func TestCloseWaitsForTheRequestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, letGo := blocking(t)
		s := NewSession(device)
		inFlight, waiting, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
		go func() { inFlight <- s.LockPCR(context.Background(), 16) }()
		synctest.Wait()
		go func() { waiting <- s.LockPCR(context.Background(), 17) }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if device.closed.Load() != 0 || len(closed) != 0 {
			t.Fatal("Close did not wait")
		}
		// Who waits does not get a turn any more, nor does who comes now.
		if err := <-waiting; reason(err) != ReasonClosed || !errors.Is(err, ReasonClosed) {
			t.Errorf("waiting: %v", err)
		}
		for _, op := range ops {
			if _, err := op.call(t.Context(), s); !errors.Is(err, ReasonClosed) {
				t.Errorf("%s while closing: %v", op.name, err)
			}
		}
		close(letGo)
		if err := <-inFlight; err != nil {
			t.Errorf("in flight: %v", err)
		}
		if err := errors.Join(<-closed, s.Close()); err != nil {
			t.Error(err)
		}
		if device.closed.Load() != 1 || device.sent.Load() != 1 {
			t.Errorf("closed %d times, %d requests", device.closed.Load(), device.sent.Load())
		}
	})
}

func TestCloseAfterAbandonedRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		device, letGo := blocking(t)
		s := NewSession(device)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			synctest.Wait()
			cancel()
		}()
		if err := s.LockPCR(ctx, 16); reason(err) != ReasonCanceled {
			t.Fatal(err)
		}
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if device.closed.Load() != 0 {
			t.Fatal("closed while the abandoned request is at the device")
		}
		close(letGo)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

type closeFails struct {
	fake
	err error
}

func (c *closeFails) Close() error { return c.err }

func TestCloseError(t *testing.T) {
	s := NewSession(&closeFails{err: syscall.EIO})
	for range 2 {
		if err := s.Close(); reason(err) != ReasonDevice || !errors.Is(err, syscall.EIO) {
			t.Errorf("%v", err)
		}
	}
}

// Many goroutines of every kind, some with contexts that end, and a Close in
// the middle: fake panics if two requests meet or one meets Close.
func TestConcurrentUse(t *testing.T) {
	for range 20 {
		device := answering(t, lockPCR)
		s := NewSession(device)
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for range 20 {
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if i%2 == 0 {
						ctx, cancel = context.WithCancel(ctx)
					}
					if i%4 == 0 {
						go cancel()
					}
					err := s.LockPCR(ctx, 16)
					if err != nil && !errors.Is(err, ReasonClosed) && !errors.Is(err, context.Canceled) {
						t.Errorf("%v", err)
					}
					cancel()
				}
			})
		}
		wg.Go(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if device.closed.Load() != 1 {
			t.Errorf("closed %d times", device.closed.Load())
		}
		if err := s.LockPCR(context.Background(), 16); !errors.Is(err, ReasonClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{Op: "LockPCR", Reason: ReasonNSM, Code: CodeReadOnlyIndex, Detail: "locked"}, "nsm: LockPCR: nsm-error: ReadOnlyIndex: locked"},
		{&Error{Op: "Open", Reason: ReasonNoDevice, Field: "path", Detail: "do this", Err: errors.New("cause")}, "nsm: Open: no-device: path: do this: cause"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	for _, code := range []Code{CodeSuccess, CodeInvalidArgument, CodeInvalidIndex, CodeInvalidResponse, CodeReadOnlyIndex, CodeInvalidOperation, CodeBufferTooSmall, CodeInputTooLarge, CodeInternalError} {
		if code.advice() == Code("unknown").advice() {
			t.Errorf("no advice for %s", code)
		}
	}
}
