package nsmtest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation/pcr"
	"github.com/keyvouch/keyvouch/nsm"
)

// The software NSM must answer each request as the emulated one of QEMU did, which
// internal/e2e recorded, but for what the package documentation lists.
func TestAnswersAsRecorded(t *testing.T) {
	for machine, options := range map[string]Options{
		"nitro-enclave": {ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", RoleARN: "arn:aws:iam::123456789012:role/probe"},
		"q35":           {ModuleID: "i-234-enc5678"},
	} {
		t.Run(machine, func(t *testing.T) {
			recording, err := LoadRecording("../testdata/recorded/" + machine + ".json")
			if err != nil {
				t.Fatal(err)
			}
			if len(recording.Exchanges) < 100 {
				t.Fatalf("%d exchanges", len(recording.Exchanges))
			}
			options.LegacyShape = true // as QEMU writes it
			n := newNSM(t, options)
			if machine == "q35" { // where nothing is measured
				n.pcrs, n.locked = [NumPCRs]pcr.Value{}, [NumPCRs]bool{}
			}
			for _, e := range recording.Exchanges {
				t.Run(e.Comment, func(t *testing.T) { compareAnswers(t, n, e) })
			}
		})
	}
}

func compareAnswers(t *testing.T, n *NSM, e Exchange) {
	got, err := n.Send(e.Request)
	if e.Error != "" {
		if err == nil || got != nil {
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
	switch {
	case strings.HasSuffix(e.Comment, "of 1025 bytes"): // QEMU has no limit on fields
		want = answerError(nsm.CodeInputTooLarge)
	case e.Comment == "Attestation with a nonce twice": // QEMU takes the last
		want = answerError(nsm.CodeInvalidOperation)
	}
	compare(t, n, got, want)
	if g, w := shape(t, got, ""), shape(t, want, ""); g != w {
		t.Errorf("the shape is   %s\nrecorded was   %s", g, w)
	}
}

// shape writes down how an answer is encoded, byte for byte but for values: the
// types and widths of items, lengths and keys, in their order. The order of keys is
// left out where QEMU's is known to differ, and so is what is in its unsigned
// documents in the place of certificates and signature. In says of what field the
// bytes are.
func shape(t testing.TB, raw []byte, in string) string {
	t.Helper()
	r := reader{rest: raw}
	s := r.shape(t, in)
	if len(r.rest) > 0 {
		t.Fatalf("%d bytes after the answer", len(r.rest))
	}
	return s
}

func (r *reader) shape(t testing.TB, in string) string {
	t.Helper()
	rest := r.rest
	major, n, width, indefinite, ok := r.head()
	if !ok || indefinite {
		t.Fatalf("malformed or of indefinite length: %x", rest)
	}
	take := func() []byte {
		if n > uint64(len(r.rest)) {
			t.Fatalf("ends early: %x", rest)
		}
		b := r.rest[:n]
		r.rest = r.rest[n:]
		return b
	}
	switch major {
	case majorText:
		text := string(take())
		if in == "value" {
			return fmt.Sprintf("text%d", width)
		}
		return fmt.Sprintf("%q", text)
	case majorBytes:
		b := take()
		switch in {
		case "document":
			return shape(t, b, "COSE_Sign1")
		case "payload":
			return shape(t, b, "")
		case "protected", "signature", "certificate":
			return in
		}
		return fmt.Sprintf("bytes[%d]", len(b))
	case majorArray:
		if in == "cabundle" {
			for range n {
				_ = r.shape(t, "certificate")
			}
			return "certificates"
		}
		var parts []string
		for i := range n {
			of := ""
			if in == "COSE_Sign1" && n == 4 {
				of = []string{"protected", "", "payload", "signature"}[i]
			}
			parts = append(parts, r.shape(t, of))
		}
		return fmt.Sprintf("[%s]", strings.Join(parts, " "))
	case majorMap:
		var parts []string
		for range n {
			key := r.shape(t, "")
			of := strings.Trim(key, `"`)
			switch {
			case in == "pcrs" || of == "Error" || of == "locked_pcrs":
				of = ""
			case of == "module_id" || of == "digest":
				of = "value"
			}
			parts = append(parts, key+": "+r.shape(t, of))
		}
		if in == kindDescribeNSM || in == kindDescribePCR {
			slices.Sort(parts)
		}
		return fmt.Sprintf("{%s}", strings.Join(parts, ", "))
	case majorSimple:
		if n == cborNull&31 {
			return "null"
		}
		return "bool"
	}
	if in == "timestamp" {
		return fmt.Sprintf("integer in %d bytes", width)
	}
	return fmt.Sprintf("integer %d in %d bytes", n, width)
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
		for index := range 3 { // the image's
			if pcr := n.PCR(index); pcr != [48]byte{} && bytes.Equal(value.([]byte), pcr[:]) {
				g.(map[any]any)[kindDescribePCR].(map[any]any)["data"] = w.(map[any]any)[kindDescribePCR].(map[any]any)["data"]
			}
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
