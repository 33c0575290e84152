package attestation_test

import (
	"bytes"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// The attacks on documents, one by one, are in testdata/vectors. Here is what
// must hold for all documents, and what a vector cannot say.

// Every byte of a document is signed or fixed: no change may go unnoticed.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)
	for i := range raw {
		if i > 64 && i%7 != 0 {
			continue // all of the head, and a sample of the rest
		}
		altered := bytes.Clone(raw)
		altered[i] ^= 0x01
		if doc, err := v.Verify(altered, expectNonce); err == nil || doc != nil {
			t.Errorf("byte %d may be altered", i)
		}
	}
}

// No beginning of a document is one.
func TestEveryTruncationIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	v, raw := e.verifier(t), e.attest(t)
	for n := range raw {
		if doc, err := v.Verify(raw[:n], expectNonce); err == nil || doc != nil {
			t.Errorf("%d bytes of %d are accepted", n, len(raw))
		}
	}
}

// An accepted document of a debug enclave says that it is one.
func TestDebugModeIsTold(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{Debug: true})
	e.policy.Measurements, e.policy.UnsafeAnyMeasurement = nil, true
	e.policy.UnsafeAllowDebug = true
	if doc := accepts(t, e.verifier(t), e.attest(t), expectNonce); !doc.Debug() {
		t.Error("the document does not say that it is of a debug enclave")
	}
}

// What was not compared is not said to be checked.
func TestCheckedTellsWhatWasCompared(t *testing.T) {
	t.Parallel()
	e := newEnclave(t, nsmtest.Options{})
	checked := accepts(t, e.verifier(t), e.attest(t), attestation.Expect{UnsafeAnyNonce: true}).Checked
	if checked.Nonce || checked.UserData || checked.PublicKey {
		t.Errorf("%+v", checked)
	}
}
