package attestation_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// FuzzParse holds the strict reader to a general CBOR decoder: what it accepts
// the other accepts too, with the same values.
func FuzzParse(f *testing.F) {
	for _, legacy := range []bool{false, true} {
		e := newEnclave(f, nsmtest.Options{LegacyShape: legacy})
		raw := e.attestWith(f, nsm.AttestationRequest{Nonce: nonce, UserData: []byte("u")})
		f.Add(raw)
		f.Add(join([]byte{0xd2}, raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
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
	})
}

// FuzzVerify alters the one document that would be accepted, at a place and by
// bytes of the fuzzer's choice. Whatever is accepted must be the document itself,
// but for a tag 18 before it. (The document is another in each process, since
// its keys are, so it can't be the fuzzer's input.)
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
