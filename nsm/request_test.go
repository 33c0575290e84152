package nsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/hf/nsm/request"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The bytes are what AWS's own library sends, which writes CBOR with serde.
func TestEncodeRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request request.Request
		want    string
	}{
		{"DescribeNSM", &request.DescribeNSM{}, "6b 44657363726962654e534d"},
		{"GetRandom", &request.GetRandom{}, "69 47657452616e646f6d"},
		{"DescribePCR 0", &request.DescribePCR{}, "a1 6b4465736372696265504352 a1 65696e646578 00"},
		{"DescribePCR 32", &request.DescribePCR{Index: 32}, "a1 6b4465736372696265504352 a1 65696e646578 1820"},
		{"DescribePCR 300", &request.DescribePCR{Index: 300}, "a1 6b4465736372696265504352 a1 65696e646578 19012c"},
		{"ExtendPCR", &request.ExtendPCR{Index: 16, Data: []byte{0xaa}}, "a1 69457874656e64504352 a2 65696e646578 10 6464617461 41aa"},
		{"LockPCR", &request.LockPCR{Index: 20}, "a1 674c6f636b504352 a1 65696e646578 14"},
		{"LockPCRs", &request.LockPCRs{Range: 32}, "a1 684c6f636b50435273 a1 6572616e6765 1820"},
		{"Attestation nil", &request.Attestation{}, "a1 6b4174746573746174696f6e a3 69757365725f64617461 f6 656e6f6e6365 f6 6a7075626c69635f6b6579 f6"},
		{"Attestation empty", &request.Attestation{UserData: []byte{}, Nonce: []byte{}, PublicKey: []byte{}}, "a1 6b4174746573746174696f6e a3 69757365725f64617461 40 656e6f6e6365 40 6a7075626c69635f6b6579 40"},
		{"Attestation", &request.Attestation{UserData: []byte("user data")}, "a1 6b4174746573746174696f6e a3 69757365725f64617461 49757365722064617461 656e6f6e6365 f6 6a7075626c69635f6b6579 f6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := encodeRequest(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, tt.want); !bytes.Equal(got, want) {
				t.Errorf("got  %x\nwant %x", got, want)
			}
		})
	}
}

func TestEncodeRequestLimit(t *testing.T) {
	// {"ExtendPCR":{"index":23,"data":…}} is 27 bytes without the data.
	const overhead = 27
	b, err := encodeRequest(&request.ExtendPCR{Index: 23, Data: make([]byte, MaxRequestSize-overhead)})
	if err != nil || len(b) != MaxRequestSize {
		t.Fatalf("%d bytes, %v; want exactly %d", len(b), err, MaxRequestSize)
	}
	_, err = encodeRequest(&request.ExtendPCR{Index: 23, Data: make([]byte, MaxRequestSize-overhead+1)})
	var e *Error
	if !errors.As(err, &e) || e.Reason != ReasonRequestSize {
		t.Errorf("one byte more: %v, want %s", err, ReasonRequestSize)
	}
}

func TestThreeFullFieldsFit(t *testing.T) {
	full := make([]byte, MaxFieldSize)
	if b, err := encodeRequest(&request.Attestation{UserData: full, Nonce: full, PublicKey: full}); err != nil || len(b) != 3122 {
		t.Errorf("%d bytes, %v; want 3122", len(b), err)
	}
}
