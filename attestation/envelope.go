package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"

	"github.com/veraison/go-cose"

	"github.com/keyvouch/keyvouch/attestation/internal/strictder"
	"github.com/keyvouch/keyvouch/internal/errtext"
	"github.com/keyvouch/keyvouch/internal/es384"
)

// tagSign1 is the CBOR tag of COSE_Sign1 (RFC 9052, section 2). NSMs leave it
// out; AWS's text allows it.
const tagSign1 = 18

// protectedES384 is the protected header {1: -35}, the only one allowed.
var protectedES384 = []byte{0xa1, 0x01, 0x38, 0x22}

// envelope is a COSE_Sign1 message whose parts alias the input.
type envelope struct {
	payload   []byte
	signature []byte
}

// parseEnvelope reads the COSE_Sign1 structure, exactly as NSMs write it.
func parseEnvelope(raw []byte) (envelope, error) {
	if len(raw) == 0 || len(raw) > MaxDocumentSize {
		return envelope{}, fail(ReasonDocumentSize, "", "%d bytes, not 1 to %d%s", len(raw), MaxDocumentSize, textHint(raw))
	}
	r := &reader{data: raw}
	it, err := r.head("")
	if err != nil {
		return envelope{}, err
	}
	if it.major == majorTag && it.arg == tagSign1 {
		if it, err = r.head(""); err != nil {
			return envelope{}, err
		}
	}
	if it.major != majorArray || it.indefinite || it.arg != 4 {
		return envelope{}, fail(ReasonNotSign1, "", "begins with %v (argument %d), not with an array of 4, untagged or under tag 18%s", it, it.arg, textHint(raw))
	}

	protected, err := r.bytes("protected header", 0, MaxDocumentSize, ReasonAlgorithm)
	if err != nil {
		return envelope{}, notSign1(err)
	}
	if !bytes.Equal(protected, protectedES384) {
		return envelope{}, fail(ReasonAlgorithm, "protected header", "is %s, not %s, which is {1: -35} for ES384", errtext.Hex(protected), hex.EncodeToString(protectedES384))
	}

	unprotected, err := r.expect("unprotected header", majorMap)
	if err != nil {
		return envelope{}, notSign1(err)
	}
	if unprotected != 0 {
		return envelope{}, fail(ReasonUnprotectedHeader, "unprotected header", "has %d entries, not none: nothing signs them", unprotected)
	}

	payload, err := r.bytes("payload", 1, MaxPayloadSize, ReasonPayloadSize)
	if err != nil {
		return envelope{}, notSign1(err)
	}
	signature, err := r.bytes("signature", SignatureSize, SignatureSize, ReasonSignatureSize)
	if err != nil {
		return envelope{}, notSign1(err)
	}
	if err := r.end("document"); err != nil {
		return envelope{}, err
	}
	return envelope{payload: payload, signature: signature}, nil
}

// notSign1 turns a wrong type among the four elements into what it means.
func notSign1(err error) error {
	if e, ok := err.(*Error); ok && e.Reason == ReasonFieldType {
		e.Reason = ReasonNotSign1
	}
	return err
}

// textHint notices the commonest mistake of callers: handing over the base64
// or hexadecimal text in which the document travelled.
func textHint(raw []byte) string {
	if len(raw) < 8 {
		return ""
	}
	for _, b := range raw[:min(len(raw), 64)] {
		if b < 0x20 || b > 0x7e {
			return ""
		}
	}
	return "; the input is text: decode its base64 or hexadecimal form first"
}

// verify checks the ES384 signature over the received payload bytes.
func (e envelope) verify(signer *x509.Certificate) error {
	message := cose.UntaggedSign1Message{
		Headers: cose.Headers{
			RawProtected: rawProtectedES384,
			Protected:    cose.ProtectedHeader{cose.HeaderLabelAlgorithm: cose.AlgorithmES384},
		},
		Payload:   e.payload,
		Signature: e.signature,
	}
	if err := message.Verify(nil, es384.Verifier{Point: strictder.PublicPoint(signer)}); err != nil {
		return &Error{Reason: ReasonSignature, Field: "signature", Detail: "does not verify with the certificate's key: the document was altered or signed by another key", Err: err}
	}
	return nil
}

// rawProtectedES384 is protectedES384 as the byte string that is signed.
var rawProtectedES384 = append([]byte{0x44}, protectedES384...)
