package nsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
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

// A kernel's generator that is seeded already takes what is added to the pool at its
// next turn, unless it is told to: keys that are made in the meantime would owe nothing
// to the NSM. How often it was seeded Linux shows in the memory of the vDSO (since 6.11).
func TestSeedKernelReseeds(t *testing.T) {
	device, err := os.OpenFile(randomPath, os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer device.Close()
	// Where the count is depends on the kernel; it is what goes up by one each time.
	before := vdsoPages(t)
	for range 3 {
		if err := ioctlRandom(device, "RNDRESEEDCRNG", unix.RNDRESEEDCRNG, nil); err != nil {
			t.Skip(err)
		}
		after := vdsoPages(t)
		maps.DeleteFunc(before, func(page, count uint64) bool { return after[page] != count+1 })
		for page := range before {
			before[page] = after[page]
		}
	}
	if len(before) != 1 {
		t.Skipf("this kernel doesn't show how often its generator was seeded: %d counts", len(before))
	}
	session := NewSession(random256(t))
	defer session.Close()
	if err := session.SeedKernel(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := vdsoPages(t)
	for page, count := range before {
		if after[page] == count {
			t.Errorf("the generator was not seeded anew: it still counts %d", count)
		}
	}
}

// vdsoPages returns the first word of each page of this process's that the kernel
// keeps data in.
func vdsoPages(t *testing.T) map[uint64]uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Skip(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	words := map[uint64]uint64{}
	for line := range strings.Lines(string(text)) {
		var page, end uint64
		if _, err := fmt.Sscanf(line, "%x-%x ", &page, &end); err != nil || !strings.HasSuffix(line, "[vvar]\n") {
			continue
		}
		for ; page < end; page += uint64(os.Getpagesize()) {
			// write(2) copes with a page that isn't there.
			var word [8]byte
			if n, _, errno := unix.Syscall(unix.SYS_WRITE, w.Fd(), uintptr(page), uintptr(len(word))); errno != 0 || n != uintptr(len(word)) {
				continue
			}
			if _, err := io.ReadFull(r, word[:]); err != nil {
				t.Fatal(err)
			}
			words[page] = binary.NativeEndian.Uint64(word[:])
		}
	}
	return words
}

func TestSeedKernelErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	device := random256(t)
	if e := wantReason(t, NewSession(device).SeedKernel(ctx), ReasonCanceled); e.Op != "SeedKernel" || device.sent.Load() != 0 {
		t.Errorf("%v after %d requests", e, device.sent.Load())
	}
	wantReason(t, new(Session).SeedKernel(t.Context()), ReasonNoDevice)
	e := wantReason(t, NewSession(answering(t, "a1 65 4572726f72 6d 496e7465726e616c4572726f72")).SeedKernel(t.Context()), ReasonNSM)
	if e.Op != "SeedKernel" || e.Code != CodeInternalError {
		t.Errorf("%+v", e)
	}
	// An NSM that gives nothing leaves the kernel's pool alone.
	wantReason(t, NewSession(answering(t, "a1 69 47657452616e646f6d a1 66 72616e646f6d 40")).SeedKernel(t.Context()), ReasonMalformedResponse)
}
