package nsmtest

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var requests = []struct {
	name, raw string
	want      request // no kind: refused
}{
	{"DescribeNSM", "6b 44657363726962654e534d", request{kind: kindDescribeNSM}},
	{"GetRandom", "69 47657452616e646f6d", request{kind: kindGetRandom}},
	{"bytes after it", "69 47657452616e646f6d 0000", request{kind: kindGetRandom}},
	{"DescribePCR", "a1 6b4465736372696265504352 a1 65696e646578 181f", request{kind: kindDescribePCR, index: 31}},
	{"ExtendPCR", "a1 69457874656e64504352 a2 65696e646578 10 6464617461 41aa", request{kind: kindExtendPCR, index: 16, data: []byte{0xaa}}},
	{"ExtendPCR in another order", "a1 69457874656e64504352 a2 6464617461 41aa 65696e646578 10", request{kind: kindExtendPCR, index: 16, data: []byte{0xaa}}},
	{"LockPCR", "a1 674c6f636b504352 a1 65696e646578 10", request{kind: kindLockPCR, index: 16}},
	{"LockPCRs", "a1 684c6f636b50435273 a1 6572616e6765 1820", request{kind: kindLockPCRs, count: 32}},
	{"Attestation", "a1 6b4174746573746174696f6e a3 69757365725f64617461 4101 656e6f6e6365 f6 6a7075626c69635f6b6579 40", request{kind: kindAttestation, userData: []byte{1}, publicKey: []byte{}}},
	{"Attestation as text", "a1 6b4174746573746174696f6e a1 656e6f6e6365 6161", request{kind: kindAttestation, nonce: []byte("a")}},
	{"Attestation of nothing", "a1 6b4174746573746174696f6e a0", request{kind: kindAttestation}},
	{"indefinite maps", "bf 6b4174746573746174696f6e bf ff ff", request{kind: kindAttestation}},
	{"index 16 in two bytes", "a1 674c6f636b504352 a1 65696e646578 1810", request{kind: kindLockPCR, index: 16}},
	{"unknown field", "a1 674c6f636b504352 a2 636e6577 82 c1 01 bf 5f 4101 ff fb3ff0000000000000 ff 65696e646578 10", request{kind: kindLockPCR, index: 16}},

	{"nothing", "", request{}},
	{"break", "ff", request{}},
	{"number", "00", request{}},
	{"unknown text", "63 466f6f", request{}},
	{"text that needs a body", "6b 4465736372696265504352", request{}},
	{"map that is text", "a1 6b44657363726962654e534d a0", request{}},
	{"unknown variant", "a1 63466f6f a0", request{}},
	{"no variant", "a0", request{}},
	{"no variant, indefinite", "bf ff", request{}},
	{"two variants", "a2 674c6f636b504352 a1 65696e646578 10 674c6f636b504352 a1 65696e646578 11", request{}},
	{"no index", "a1 674c6f636b504352 a0", request{}},
	{"no data", "a1 69457874656e64504352 a1 65696e646578 10", request{}},
	{"no range", "a1 684c6f636b50435273 a0", request{}},
	{"index of 16 bits", "a1 674c6f636b504352 a1 65696e646578 190010", request{}},
	{"index over 255", "a1 674c6f636b504352 a1 65696e646578 190100", request{}},
	{"index negative", "a1 674c6f636b504352 a1 65696e646578 20", request{}},
	{"index twice", "a1 674c6f636b504352 a2 65696e646578 10 65696e646578 10", request{}},
	{"index null", "a1 674c6f636b504352 a1 65696e646578 f6", request{}},
	{"data null", "a1 69457874656e64504352 a2 65696e646578 10 6464617461 f6", request{}},
	{"data an array", "a1 69457874656e64504352 a2 65696e646578 10 6464617461 8101", request{}},
	{"data longer than the request", "a1 69457874656e64504352 a2 65696e646578 10 6464617461 5bffffffffffffffff", request{}},
	{"nonce a number", "a1 6b4174746573746174696f6e a1 656e6f6e6365 01", request{}},
	{"tagged", "c1 69 47657452616e646f6d", request{}},
	{"endless map", "bb ffffffffffffffff", request{}},
	{"nested too deep", "a1 674c6f636b504352 a2 636e6577" + strings.Repeat("81", 20) + "00 65696e646578 10", request{}},
	{"key not text", "a1 674c6f636b504352 a1 01 10", request{}},
	{"reserved length", "7c", request{}},
}

func TestParseRequest(t *testing.T) {
	for _, tt := range requests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parseRequest(unhex(t, tt.raw))
			if ok != (tt.want.kind != "") || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, %t; want %+v", got, ok, tt.want)
			}
		})
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, tt := range requests {
		f.Add(unhex(f, tt.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		input := bytes.Clone(raw)
		req, ok := parseRequest(raw)
		if !bytes.Equal(raw, input) {
			t.Fatal("parsing changed its input")
		}
		if !ok {
			if !reflect.DeepEqual(req, request{}) {
				t.Fatalf("a value beside the refusal: %+v", req)
			}
			return
		}
		if req.index < 0 || req.index > 255 || req.count < 0 || req.count > 255 {
			t.Fatalf("%+v", req)
		}
		if len(req.data)+len(req.userData)+len(req.nonce)+len(req.publicKey) > len(raw) {
			t.Fatalf("more data than bytes: %+v", req)
		}
		// What counts does not depend on the bytes after the first item.
		again, ok := parseRequest(append(input, 0xff))
		if !ok || !reflect.DeepEqual(again, req) {
			t.Fatalf("with another byte: %+v, %t", again, ok)
		}
		// A library's view of the same item has the same kind.
		var v any
		if _, err := cbor.UnmarshalFirst(raw, &v); err != nil {
			return // it is stricter on text, map keys and tags
		}
		switch v := v.(type) {
		case string:
			if v != req.kind {
				t.Fatalf("%q, want %q", req.kind, v)
			}
		case map[any]any:
			if _, ok := v[req.kind]; !ok || len(v) != 1 {
				t.Fatalf("%q is not in %v", req.kind, v)
			}
		default:
			t.Fatalf("%T is a request", v)
		}
	})
}
