package nsm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// random256 is the NSM's answer to GetRandom, with the 256 bytes that it gives at most.
func random256(t *testing.T) *fake {
	return answering(t, "a1 69 47657452616e646f6d a1 66 72616e646f6d 59 0100"+strings.Repeat("5a", 256))
}

// The layout is that of struct rand_pool_info in <linux/random.h>, and the request
// _IOW('R', 0x03, int[2]).
func TestRandPoolInfo(t *testing.T) {
	var info randPoolInfo
	if offset, size := unsafe.Offsetof(info.buf), unsafe.Sizeof(info); offset != 8 || size != 8+256 {
		t.Errorf("the bytes are at offset %d of %d", offset, size)
	}
	if number := uint32(unix.RNDADDENTROPY) & 0xffff; number != 'R'<<8|3 {
		t.Errorf("request %#x", number)
	}
	if size := uint32(unix.RNDADDENTROPY) >> 16 & 0x1fff; size != 8 {
		t.Errorf("the request is about %d bytes", size)
	}
}

// This machine's own kernel takes the bytes, if this process may.
func TestSeedKernel(t *testing.T) {
	for range 2 {
		device := random256(t)
		session := NewSession(device)
		defer session.Close()
		err := session.SeedKernel(t.Context())
		var e *Error
		if errors.As(err, &e) && e.Reason == ReasonPermission {
			if os.Geteuid() == 0 {
				t.Skipf("root without CAP_SYS_ADMIN: %v", err)
			}
			if e.Op != "SeedKernel" || !strings.Contains(e.Detail, "CAP_SYS_ADMIN") {
				t.Errorf("%v does not say what is missing", e)
			}
			t.Skipf("this needs root: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := device.sent.Load(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	}
}

func TestSeedKernelErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	device := random256(t)
	if e := wantReason(t, NewSession(device).SeedKernel(ctx), ReasonCanceled); e.Op != "SeedKernel" || device.sent.Load() != 0 {
		t.Errorf("%v after %d requests", e, device.sent.Load())
	}
	wantReason(t, new(Session).SeedKernel(t.Context()), ReasonNoDevice)
	e := wantReason(t, NewSession(answering(t, "a1 65 4572726f72 6d 496e7465726e616c4572726f72")).SeedKernel(t.Context()), ReasonRefused)
	if e.Op != "SeedKernel" || e.Code != CodeInternalError {
		t.Errorf("%+v", e)
	}
	// An NSM that gives nothing leaves the kernel's pool alone.
	wantReason(t, NewSession(answering(t, "a1 69 47657452616e646f6d a1 66 72616e646f6d 40")).SeedKernel(t.Context()), ReasonMalformedResponse)
}
