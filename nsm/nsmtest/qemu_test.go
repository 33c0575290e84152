package nsmtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/keyvouch/keyvouch/nsm"
)

// The software NSM must answer as a Linux kernel on QEMU's nitro-enclave
// machine was recorded to, but for what the package documentation lists.
func TestAnswersAsQEMU(t *testing.T) {
	recording, err := LoadRecording("testdata/qemu-nitro-enclave.json")
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(Options{
		ModuleID: "i-0123456789abcdef0-enc0123456789abcdef",
		RoleARN:  "arn:aws:iam::123456789012:role/probe",
	})
	if err != nil {
		t.Fatal(err)
	}
	// What came before the recording, see its comment.
	session := nsm.NewSession(n)
	if _, err := session.ExtendPCR(t.Context(), 16, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, index := range []int{16, 17, 18} {
		if err := session.LockPCR(t.Context(), index); err != nil {
			t.Fatal(err)
		}
	}

	if len(recording.Exchanges) < 30 {
		t.Fatalf("%d exchanges", len(recording.Exchanges))
	}
	for _, e := range recording.Exchanges {
		t.Run(e.Comment, func(t *testing.T) {
			got, err := n.Send(e.Request)
			if e.Error != "" {
				if err == nil || !strings.Contains(err.Error(), e.Error) || got != nil {
					t.Errorf("%x, %v; recorded %q", got, err, e.Error)
				}
				if is := failureOf(err).Is; !slices.Equal(is, e.Failure.Is) {
					t.Errorf("%v is %q, recorded %q", err, is, e.Failure.Is)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := e.Response
			if e.Comment == "Attestation-pk-1025" {
				want = answerError(nsm.CodeInputTooLarge) // QEMU has no limit on fields
			}
			compare(t, n, got, want)
		})
	}
}

// compare holds an answer to a recorded one: equal, but for the order in which
// QEMU writes maps and for what the image and chance decide.
func compare(t *testing.T, n *NSM, got, want []byte) {
	t.Helper()
	g, w := decode(t, got), decode(t, want)
	if doc, ok := field(g, kindAttestation, "document"); ok {
		recorded, _ := field(w, kindAttestation, "document")
		compareDocuments(t, n, doc.([]byte), recorded.([]byte))
		return
	}
	if random, ok := field(g, kindGetRandom, "random"); ok {
		recorded, _ := field(w, kindGetRandom, "random")
		if len(random.([]byte)) != len(recorded.([]byte)) {
			t.Errorf("%d random bytes, recorded %d", len(random.([]byte)), len(recorded.([]byte)))
		}
		return
	}
	if value, ok := field(g, kindDescribePCR, "data"); ok {
		if pcr0 := n.PCR(0); bytes.Equal(value.([]byte), pcr0[:]) {
			g.(map[any]any)[kindDescribePCR].(map[any]any)["data"] = w.(map[any]any)[kindDescribePCR].(map[any]any)["data"]
		}
	}
	if fmt.Sprint(g) != fmt.Sprint(w) {
		t.Errorf("got      %v\nrecorded %v", g, w)
	}
}

func compareDocuments(t *testing.T, n *NSM, got, want []byte) {
	t.Helper()
	g, w := payloadOf(t, got), payloadOf(t, want)
	for key := range w {
		switch key {
		case "timestamp":
			if g[key].(uint64) < w[key].(uint64) {
				t.Errorf("timestamp %v is before the recording", g[key])
			}
		case "certificate", "cabundle": // QEMU has no certificates
		case "pcrs":
			gp, wp := g[key].(map[any]any), w[key].(map[any]any)
			if len(gp) != len(wp) {
				t.Errorf("%d PCRs, recorded %d", len(gp), len(wp))
			}
			for index, value := range wp {
				if index.(uint64) <= 2 { // the image's
					pcr := n.PCR(int(index.(uint64)))
					value = pcr[:]
				}
				if fmt.Sprint(gp[index]) != fmt.Sprint(value) {
					t.Errorf("PCR%d is %x, recorded %x", index, gp[index], value)
				}
			}
		default:
			if fmt.Sprintf("%T %v", g[key], g[key]) != fmt.Sprintf("%T %v", w[key], w[key]) {
				t.Errorf("%s is %v, recorded %v", key, g[key], w[key])
			}
		}
	}
	if len(g) != len(w) {
		t.Errorf("%d fields, recorded %d", len(g), len(w))
	}
}

func decode(t testing.TB, raw []byte) any {
	t.Helper()
	var v any
	if err := cbor.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%x: %v", raw, err)
	}
	return v
}

// field returns a field of a response of the given kind.
func field(response any, kind, name string) (any, bool) {
	outer, ok := response.(map[any]any)
	if !ok {
		return nil, false
	}
	body, ok := outer[kind].(map[any]any)
	if !ok {
		return nil, false
	}
	value, ok := body[name]
	return value, ok
}

// payloadOf returns the fields of a document's payload.
func payloadOf(t testing.TB, document []byte) map[any]any {
	t.Helper()
	parts, ok := decode(t, document).([]any)
	if !ok || len(parts) != 4 {
		t.Fatalf("not a COSE_Sign1: %x", document)
	}
	payload, ok := decode(t, parts[2].([]byte)).(map[any]any)
	if !ok {
		t.Fatalf("not a map: %x", parts[2])
	}
	return payload
}
