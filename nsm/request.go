package nsm

import (
	"fmt"
	"math"

	"github.com/fxamacker/cbor/v2"
	"github.com/hf/nsm/request"
)

// encodeRequest returns the CBOR that serde writes for a request in AWS's own
// library: fields in the order of its structs, shortest-form integers, null
// for an absent field.
func encodeRequest(r request.Request) ([]byte, error) {
	b, err := cbor.Marshal(r.Encoded())
	if err != nil {
		return nil, &Error{Reason: ReasonInvalidArgument, Detail: "the request cannot be encoded", Err: err}
	}
	// A longer one would come back as EMSGSIZE, and an empty one can block the
	// driver for minutes.
	if len(b) == 0 || len(b) > MaxRequestSize {
		return nil, &Error{
			Reason: ReasonRequestSize,
			Detail: fmt.Sprintf("the request takes %d bytes, and the NSM takes 1 to %d; extend the PCR with a hash of the data", len(b), MaxRequestSize),
		}
	}
	return b, nil
}

// checkField refuses a field of an attestation request that the NSM would.
func checkField(name string, value []byte) error {
	if len(value) > MaxFieldSize {
		return &Error{
			Reason: ReasonRequestSize, Field: name,
			Detail: fmt.Sprintf("it is %d bytes, and the NSM takes at most %d; pass its hash", len(value), MaxFieldSize),
		}
	}
	return nil
}

// checkIndex returns a PCR's index in its wire type. Whether there is such a
// PCR is for the NSM to say, which alone knows how many it has.
func checkIndex(index int) (uint16, error) {
	if index < 0 || index > math.MaxUint16 {
		return 0, &Error{
			Reason: ReasonInvalidArgument, Field: "index",
			Detail: fmt.Sprintf("%d: want 0 to one less than the number that Describe tells (32 on hardware)", index),
		}
	}
	return uint16(index), nil
}
