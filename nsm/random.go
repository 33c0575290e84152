package nsm

import (
	"context"
	"fmt"

	"github.com/hf/nsm/request"
)

// Read fills p with randomness of the NSM, which gives at most 256 bytes per
// request. It makes the session an io.Reader. To seed the kernel at boot, call
// [Session.SeedKernel]. It returns len(p) and nil, or less and an error.
//
// Read takes no context; the driver gives up on a request after 120 seconds. An
// NSM that keeps answering with only a few bytes fails with [ReasonMalformedResponse] instead of keeping Read busy.
func (s *Session) Read(p []byte) (int, error) {
	return s.readRandom(context.Background(), "Read", p)
}

func (s *Session) readRandom(ctx context.Context, op string, p []byte) (int, error) {
	// Four times the requests an honest NSM needs, and a few for short reads.
	budget := 4*(len(p)/maxRandomSize) + 8
	n := 0
	for n < len(p) {
		if budget == 0 {
			return n, &Error{Op: op, Reason: ReasonMalformedResponse, Detail: fmt.Sprintf(
				"the NSM gives too little randomness per request: %d of %d bytes so far", n, len(p))}
		}
		budget--
		res, err := s.do(ctx, op, kindGetRandom, &request.GetRandom{})
		if err != nil {
			return n, err
		}
		n += copy(p[n:], res.random)
	}
	return n, nil
}

// SeedKernel puts randomness of the NSM into the Linux kernel's pool, has it credited
// (ioctl RNDADDENTROPY of random(4)) and has the kernel's generator seeded anew from
// the pool (RNDRESEEDCRNG, which came with Linux 4.17), so that from its return on
// getrandom(2), and with it crypto/rand, gives what nobody outside can know, and does
// not wait for other sources, of which an enclave has few. Call it at boot, before
// anything makes a key. Calling it again does no harm.
//
// Linux 6.8 and later with CONFIG_NSM takes randomness from the NSM by itself, at a time
// of its own; call this there, too. It needs root or CAP_SYS_ADMIN. On systems other than
// Linux it fails with [ReasonUnsupported] and errors.ErrUnsupported.
func (s *Session) SeedKernel(ctx context.Context) error {
	const op = "SeedKernel"
	seed := make([]byte, seedSize)
	defer clear(seed)
	if _, err := s.readRandom(ctx, op, seed); err != nil {
		return err
	}
	if err := creditKernel(seed); err != nil {
		return withOp(op, err)
	}
	return nil
}
