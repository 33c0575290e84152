package interop

import (
	"bytes"
	"crypto/x509"
	"testing"
	"time"

	hf "github.com/hf/nitrite"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// FuzzPayloadAgainstNitrite has a software NSM sign any payload and holds our
// verdict to that of github.com/hf/nitrite: what we accept, it accepts too. (The
// reverse doesn't hold: it accepts much that breaks AWS's rules.)
func FuzzPayloadAgainstNitrite(f *testing.F) {
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	enclave, err := nsmtest.New(nsmtest.Options{Image: []byte("image"), Clock: func() time.Time { return now }})
	if err != nil {
		f.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(attestation.Policy{
		UnsafeAnyMeasurement: true, UnsafeAllowDebug: true,
		Roots: []*x509.Certificate{enclave.Root()},
		Clock: func() time.Time { return now },
	})
	if err != nil {
		f.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(enclave.Root())

	raw, err := nsm.NewSession(enclave).Attest(f.Context(), nsm.AttestationRequest{Nonce: []byte("n"), UserData: []byte("u")})
	if err != nil {
		f.Fatal(err)
	}
	const head, signature = 10, 2 + attestation.SignatureSize
	payload := raw[head : len(raw)-signature]

	// The payload holds certificates that are new in each process, so the input
	// is a change of it: at a place, so many bytes replaced by others.
	for _, at := range []uint16{0, 1, 12, 60, 80, 200, 600, 1500, uint16(len(payload) - 30)} {
		f.Add(at, uint16(1), []byte{0xa9})
		f.Add(at, uint16(0), []byte{0x61, 'x', 0xf6})
	}
	f.Fuzz(func(t *testing.T, at, drop uint16, insert []byte) {
		from := min(int(at), len(payload))
		to := min(from+int(drop), len(payload))
		altered := bytes.Join([][]byte{payload[:from], insert, payload[to:]}, nil)
		if len(altered) == 0 || len(altered) > attestation.MaxPayloadSize {
			return
		}
		document, err := enclave.SignPayload(altered)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := verifier.Verify(document, attestation.Expect{UnsafeAnyNonce: true}); err != nil {
			return
		}
		if _, err := hf.Verify(document, hf.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
			t.Fatalf("accepted what hf/nitrite refuses: %v", err)
		}
	})
}
