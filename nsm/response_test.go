package nsm

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const (
	zero32 = "0000000000000000000000000000000000000000000000000000000000000000"
	zero48 = zero32 + "00000000000000000000000000000000"

	describePCRHead = "a1 6b4465736372696265504352 "
	lockField       = "646c6f636b "
	dataField       = "6464617461 "
	describeNSM     = "a1 6b44657363726962654e534d a7 6d76657273696f6e5f6d616a6f72 01 6d76657273696f6e5f6d696e6f72 00 6d76657273696f6e5f7061746368 00 " +
		"696d6f64756c655f6964 63692d78 686d61785f70637273 1820 6b6c6f636b65645f70637273 83 00 01 18ff 66646967657374 66534841333834"
)

func TestDecodeResponse(t *testing.T) {
	pcr := make([]byte, 48)
	for _, tt := range []struct {
		name, raw string
		want      response
	}{
		{"DescribePCR as serde writes it", describePCRHead + "a2" + lockField + "f5" + dataField + "5830" + zero48, response{kind: kindDescribePCR, lock: true, data: pcr}},
		{"DescribePCR in another order", describePCRHead + "a2" + dataField + "5830" + zero48 + lockField + "f4", response{kind: kindDescribePCR, data: pcr}},
		{"DescribePCR with an unknown field", describePCRHead + "a3" + dataField + "5830" + zero48 + lockField + "f4" + "636e6577 01", response{kind: kindDescribePCR, data: pcr}},
		{"DescribePCR as indefinite maps", "bf 6b4465736372696265504352 bf" + dataField + "5830" + zero48 + lockField + "f4 ff ff", response{kind: kindDescribePCR, data: pcr}},
		{"ExtendPCR", "a1 69457874656e64504352 a1" + dataField + "5830" + zero48, response{kind: kindExtendPCR, data: pcr}},
		{"LockPCR", "67 4c6f636b504352", response{kind: kindLockPCR}},
		{"LockPCRs", "68 4c6f636b50435273", response{kind: kindLockPCRs}},
		{"DescribeNSM", describeNSM, response{kind: kindDescribeNSM, describe: describeNSMFields{
			major: 1, moduleID: "i-x", maxPCRs: 32, lockedPCRs: []uint16{0, 1, 255}, digest: "SHA384"}}},
		{"Attestation", "a1 6b4174746573746174696f6e a1 68646f63756d656e74 42 8440", response{kind: kindAttestation, document: []byte{0x84, 0x40}}},
		{"GetRandom", "a1 6947657452616e646f6d a1 6672616e646f6d 42 0102", response{kind: kindGetRandom, random: []byte{1, 2}}},
		{"Error", "a1 654572726f72 6d526561644f6e6c79496e646578", response{kind: kindError, code: CodeReadOnlyIndex}},
		{"Error of a newer NSM", "a1 654572726f72 634e6577", response{kind: kindError, code: "New"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeResponse(unhex(t, tt.raw))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDecodeResponseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, raw, why string }{
		{"empty", "", "0 bytes"},
		{"too long", strings.Repeat("00", MaxResponseSize+1), "12289 bytes"},
		{"truncated", "a1 6b44", "EOF"},
		{"unknown text", "63 466f6f", "unknown response"},
		{"a request's text", "69 47657452616e646f6d", "unknown response"},
		{"unknown variant", "a1 63466f6f a0", "unknown response"},
		{"no variant", "a0", "0 entries"},
		{"two variants", "a2 654572726f72 6141 63466f6f a0", "2 entries"},
		{"duplicate variant", "a2 654572726f72 6141 654572726f72 6142", "duplicate"},
		{"an array", "81 654572726f72", "array"},
		{"null", "f6", "0 entries"},
		{"text and more", "67 4c6f636b504352 00", "extraneous"},
		{"map and more", "a1 654572726f72 6141 00", "extraneous"},
		{"tagged", "c1 a1 654572726f72 6141", "tag"},
		{"error without a name", "a1 654572726f72 60", "no name"},
		{"error as a number", "a1 654572726f72 01", "positive integer"},
		{"PCR without lock", describePCRHead + "a1" + dataField + "5830" + zero48, "missing"},
		{"PCR without data", describePCRHead + "a1" + lockField + "f5", "missing"},
		{"PCR with null data", describePCRHead + "a2" + lockField + "f5" + dataField + "f6", "missing"},
		{"lock in another case", describePCRHead + "a2 644c4f434b f5" + dataField + "5830" + zero48, "missing"},
		{"duplicate field", describePCRHead + "a3" + lockField + "f5" + lockField + "f4" + dataField + "5830" + zero48, "duplicate"},
		{"lock as a number", describePCRHead + "a2" + lockField + "01" + dataField + "5830" + zero48, "positive integer"},
		{"DescribePCR of SHA-256", describePCRHead + "a2" + lockField + "f4" + dataField + "5820" + zero32, "32 bytes"},
		{"PCR of 47 bytes", describePCRHead + "a2" + lockField + "f5" + dataField + "582f" + zero48[2:], "47 bytes"},
		{"PCR of no bytes", "a1 69457874656e64504352 a1" + dataField + "40", "0 bytes"},
		{"PCR as an array", "a1 69457874656e64504352 a1" + dataField + "9820" + zero32, "array"},
		{"PCR as text", "a1 69457874656e64504352 a1" + dataField + "7820" + zero32, "text"},
		{"empty document", "a1 6b4174746573746174696f6e a1 68646f63756d656e74 40", "document"},
		{"null document", "a1 6b4174746573746174696f6e a1 68646f63756d656e74 f6", "document"},
		{"no document", "a1 6b4174746573746174696f6e a0", "document"},
		{"empty randomness", "a1 6947657452616e646f6d a1 6672616e646f6d 40", "randomness"},
		{"no randomness", "a1 6947657452616e646f6d a0", "randomness"},
		{"NSM without a field", strings.Replace(strings.Replace(describeNSM, "a7", "a6", 1), "686d61785f70637273 1820", "", 1), "missing"},
		{"NSM without a name", strings.Replace(describeNSM, "63692d78", "60", 1), "empty"},
		{"NSM without PCRs", strings.Replace(describeNSM, "686d61785f70637273 1820", "686d61785f70637273 00", 1), "empty"},
		{"PCR index over 65535", strings.Replace(describeNSM, "83 00 01 18ff", "81 1a00010000", 1), "65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := decodeResponse(unhex(t, tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("error %v, want one with %q", err, tt.why)
			}
			if !reflect.DeepEqual(r, response{}) {
				t.Errorf("a value beside the error: %+v", r)
			}
		})
	}
}

// The re-encoding of a hardware response must be what serde would have sent.
func TestEncodeResponse(t *testing.T) {
	for _, raw := range []string{
		describePCRHead + "a2" + lockField + "f5" + dataField + "5830" + zero48,
		"a1 69457874656e64504352 a1" + dataField + "5830" + zero48,
		"67 4c6f636b504352", "68 4c6f636b50435273", describeNSM,
		"a1 6b4174746573746174696f6e a1 68646f63756d656e74 42 8440",
		"a1 6947657452616e646f6d a1 6672616e646f6d 42 0102",
		"a1 654572726f72 6d526561644f6e6c79496e646578",
	} {
		want := unhex(t, raw)
		r, err := decodeResponse(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\ngot  %x\nwant %x", r.kind, err, got, want)
		}
	}
	if b, err := (response{}).encode(); err == nil {
		t.Errorf("a response of no kind encodes to %x", b)
	}
}

func FuzzDecodeResponse(f *testing.F) {
	for _, raw := range []string{
		describePCRHead + "a2" + lockField + "f5" + dataField + "5830" + zero48,
		"a1 69457874656e64504352 a1" + dataField + "5830" + zero48,
		"67 4c6f636b504352", "68 4c6f636b50435273", describeNSM,
		"bf 6b4174746573746174696f6e bf 68646f63756d656e74 5f 41 84 41 40 ff ff ff",
		"a1 6947657452616e646f6d a1 6672616e646f6d 42 0102",
		"a1 654572726f72 6d526561644f6e6c79496e646578", "a0", "ff", "",
	} {
		f.Add(unhex(f, raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		input := bytes.Clone(raw)
		r, err := decodeResponse(raw)
		if !bytes.Equal(raw, input) {
			t.Fatal("decoding changed its input")
		}
		if err != nil {
			if !reflect.DeepEqual(r, response{}) {
				t.Fatalf("a value beside the error %v: %+v", err, r)
			}
			return
		}
		if len(raw) > MaxResponseSize {
			t.Fatalf("%d bytes decode", len(raw))
		}
		if err := wholeResponse(r); err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		// What was understood survives another round.
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > MaxResponseSize {
			return // cannot happen for serde's shortest form, but a longer one may have come in
		}
		r2, err := decodeResponse(again)
		if err != nil || !reflect.DeepEqual(r, r2) {
			t.Fatalf("decoded again: %v\ngot  %+v\nwant %+v", err, r2, r)
		}
	})
}

// wholeResponse tells whether a response has what its kind needs and nothing
// of another kind.
func wholeResponse(r response) error {
	var want response
	switch want.kind = r.kind; r.kind {
	case kindLockPCR, kindLockPCRs:
	case kindError:
		if want.code = r.code; r.code == "" {
			return fmt.Errorf("no code")
		}
	case kindDescribePCR:
		want.lock, want.data = r.lock, r.data
	case kindExtendPCR:
		want.data = r.data
	case kindDescribeNSM:
		if want.describe = r.describe; r.describe.moduleID == "" || r.describe.maxPCRs == 0 {
			return fmt.Errorf("incomplete")
		}
	case kindAttestation:
		if want.document = r.document; len(r.document) == 0 {
			return fmt.Errorf("no document")
		}
	case kindGetRandom:
		if want.random = r.random; len(r.random) == 0 {
			return fmt.Errorf("no randomness")
		}
	default:
		return fmt.Errorf("no kind")
	}
	if r.kind == kindDescribePCR || r.kind == kindExtendPCR {
		if err := checkPCRValue(r.data); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(r, want) {
		return fmt.Errorf("fields of another kind")
	}
	return nil
}
