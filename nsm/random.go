package nsm

import (
	"context"
	"fmt"

	"github.com/hf/nsm/request"
)

// maxRandomSize is what one GetRandom request gives at most, in bytes.
const maxRandomSize = 256

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
