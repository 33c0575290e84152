package e2e

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Unsigned is what is in a document of QEMU's NSM, which has the form of an
// attestation document without its signature. Package attestation rightly refuses
// to read one.
type Unsigned struct {
	ModuleID    string         `cbor:"module_id"`
	Digest      string         `cbor:"digest"`
	Timestamp   uint64         `cbor:"timestamp"`
	PCRs        map[int][]byte `cbor:"pcrs"`
	Certificate []byte         `cbor:"certificate"`
	CABundle    [][]byte       `cbor:"cabundle"`
	PublicKey   []byte         `cbor:"public_key"`
	UserData    []byte         `cbor:"user_data"`
	Nonce       []byte         `cbor:"nonce"`
}

// ParseUnsigned reads a document of QEMU's NSM, and makes sure that it is one:
// with a header that says so, and zeros for a signature.
func ParseUnsigned(document []byte) (*Unsigned, error) {
	var sign1 struct {
		_           struct{} `cbor:",toarray"`
		Protected   []byte
		Unprotected map[any]any
		Payload     []byte
		Signature   []byte
	}
	if err := cbor.Unmarshal(document, &sign1); err != nil {
		return nil, fmt.Errorf("not a COSE_Sign1: %w", err)
	}
	if string(sign1.Protected) != "\xa1\x01\x20" || len(sign1.Unprotected) != 0 || string(sign1.Signature) != string(make([]byte, 64)) {
		return nil, fmt.Errorf("not one of QEMU's: header %x, signature %x", sign1.Protected, sign1.Signature)
	}
	var u Unsigned
	if err := cbor.Unmarshal(sign1.Payload, &u); err != nil {
		return nil, fmt.Errorf("the payload: %w", err)
	}
	return &u, nil
}
