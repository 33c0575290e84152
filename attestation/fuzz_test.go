package attestation_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/realdoc"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// FuzzParse holds the strict reader to a general CBOR decoder: what it accepts
// the other accepts too, with the same values, and written in the one way there
// is.
func FuzzParse(f *testing.F) {
	for _, legacy := range []bool{false, true} {
		e := newEnclave(f, nsmtest.Options{LegacyShape: legacy})
		raw := e.attestWith(f, nsm.AttestationRequest{Nonce: nonce, UserData: []byte("u")})
		f.Add(raw)
		f.Add(join([]byte{0xd2}, raw))
	}
	for _, real := range realDocuments(f) {
		f.Add(real)
	}
	f.Fuzz(checkParse)
}

// FuzzPayload is FuzzParse inside a good envelope, where most of the reader is.
func FuzzPayload(f *testing.F) {
	e := newEnclave(f, nsmtest.Options{})
	for _, request := range []nsm.AttestationRequest{{}, {Nonce: nonce}, {UserData: []byte("u"), PublicKey: []byte{}}} {
		fields := payloadFields(f, e.attestWith(f, request))
		f.Add(fields.encode())
		f.Add(append(fields[:len(fields):len(fields)], field{name: "later", value: cborOf(map[string]any{"a": []int{1, -1}, "b": true})}).encode())
		f.Add(bytes.Replace(fields.encode(), cborOf("pcrs"), cborOf("nitrotpm_pcrs"), 1))
	}
	for _, real := range realDocuments(f) {
		var message []cbor.RawMessage
		var payload []byte
		if cbor.Unmarshal(real, &message) == nil && len(message) == 4 && cbor.Unmarshal(message[2], &payload) == nil {
			f.Add(payload)
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		checkParse(t, join([]byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0}, cborOf(payload), cborOf(make([]byte, attestation.SignatureSize))))
	})
}

// realDocuments are the recorded ones, good and bad, where there are any.
func realDocuments(f *testing.F) [][]byte {
	f.Helper()
	dir := os.Getenv("KEYVOUCH_FIXTURES")
	if dir == "" {
		return nil
	}
	var documents [][]byte
	for _, folder := range []string{"attestation", "attestation-negative"} {
		for _, e := range realdoc.Manifest(f, filepath.Join(dir, folder)) {
			documents = append(documents, e.Raw)
		}
	}
	return documents
}

func checkParse(t *testing.T, raw []byte) {
	u, err := attestation.ParseUnverified(raw)
	if err != nil {
		var e *attestation.Error
		if u != nil || !errors.As(err, &e) || e.Reason == "" {
			t.Fatalf("%v beside %v", u, err)
		}
		return
	}
	var message []cbor.RawMessage
	if err := cbor.Unmarshal(bytes.TrimPrefix(raw, []byte{0xd2}), &message); err != nil || len(message) != 4 {
		t.Fatalf("accepted what another decoder refuses: %v", err)
	}
	var payload []byte
	if err := cbor.Unmarshal(message[2], &payload); err != nil {
		t.Fatal(err)
	}
	var other struct {
		ModuleID    string         `cbor:"module_id"`
		Timestamp   int64          `cbor:"timestamp"`
		PCRs        map[int][]byte `cbor:"pcrs"`
		TPMPCRs     map[int][]byte `cbor:"nitrotpm_pcrs"`
		Certificate []byte         `cbor:"certificate"`
		CABundle    [][]byte       `cbor:"cabundle"`
		PublicKey   []byte         `cbor:"public_key"`
		UserData    []byte         `cbor:"user_data"`
		Nonce       []byte         `cbor:"nonce"`
	}
	if err := cbor.Unmarshal(payload, &other); err != nil {
		t.Fatalf("accepted what another decoder refuses: %v", err)
	}
	pcrs := other.PCRs
	if u.Platform == attestation.PlatformNitroTPM {
		pcrs = other.TPMPCRs
	}
	same := u.ModuleID == other.ModuleID && u.Timestamp.UnixMilli() == other.Timestamp &&
		bytes.Equal(u.Certificate, other.Certificate) && bytes.Equal(u.PublicKey, other.PublicKey) &&
		bytes.Equal(u.UserData, other.UserData) && bytes.Equal(u.Nonce, other.Nonce) &&
		len(u.PCRs) == len(pcrs) && len(u.CABundle) == len(other.CABundle)
	for i, v := range pcrs {
		same = same && u.PCRs[i] == attestation.PCR(v)
	}
	for i, c := range other.CABundle {
		same = same && bytes.Equal(c, u.CABundle[i])
	}
	if !same {
		t.Fatalf("read as %+v, by another decoder as %+v", u, other)
	}
	if again := rewritten(t, payload, true); !bytes.Equal(again, payload) {
		t.Fatalf("accepted a payload that is not written in the shortest way:\n%x\n%x", payload, again)
	}
}

// rewritten decodes one CBOR item with another decoder and encodes it again
// in the shortest form, in the order it was in. Only the outermost may have an
// indefinite length.
func rewritten(t *testing.T, item []byte, outermost bool) []byte {
	t.Helper()
	const majorArray, majorMap = 4, 5
	major := item[0] >> 5
	if major != majorArray && major != majorMap {
		var v any
		if err := cbor.Unmarshal(item, &v); err != nil {
			t.Fatal(err)
		}
		return cborOf(v)
	}
	indefinite := outermost && item[0]&0x1f == 0x1f
	rest := item[1:]
	if !indefinite {
		// The head's argument, of 1, 2, 4 or 8 bytes.
		if width := item[0] & 0x1f; width >= 24 {
			rest = rest[1<<(width-24):]
		}
	}
	var parts []byte
	n := 0
	for len(rest) > 0 && !(indefinite && rest[0] == 0xff) {
		var v cbor.RawMessage
		after, err := cbor.UnmarshalFirst(rest, &v)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, rewritten(t, v, false)...)
		rest = after
		n++
	}
	if indefinite {
		return join([]byte{major<<5 | 0x1f}, parts, []byte{0xff})
	}
	if major == majorMap {
		n /= 2
	}
	head := cborOf(uint64(n)) // an unsigned integer has major type 0
	head[0] |= major << 5
	return join(head, parts)
}

// FuzzVerify alters the one document that would be accepted, at a place and by
// bytes of the fuzzer's choice. Whatever is accepted must be the document itself,
// but for a tag 18 before it. (The document is another in each process, since
// its keys are, so it cannot be the fuzzer's input.)
func FuzzVerify(f *testing.F) {
	e := newEnclave(f, nsmtest.Options{})
	v, raw := e.verifier(f), e.attest(f)
	accepts(f, v, raw, expectNonce)
	for _, at := range []uint16{0, 1, 5, 6, 7, 10, 100, 700, 2000, uint16(len(raw) - 97), uint16(len(raw) - 1)} {
		f.Add(at, uint16(1), []byte{0xa1})
		f.Add(at, uint16(0), []byte{0xf6})
		f.Add(at, uint16(2), []byte{})
	}
	f.Fuzz(func(t *testing.T, at, drop uint16, insert []byte) {
		from := min(int(at), len(raw))
		to := min(from+int(drop), len(raw))
		input := join(raw[:from], insert, raw[to:])
		doc, err := v.Verify(input, expectNonce)
		if (doc == nil) == (err == nil) {
			t.Fatalf("document %v beside error %v", doc, err)
		}
		if err == nil && !bytes.Equal(bytes.TrimPrefix(input, []byte{0xd2}), raw) {
			t.Fatal("accepted what was never signed")
		}
	})
}
