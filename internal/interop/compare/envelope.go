package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	edgebit "github.com/edgebitio/nitro-enclaves-sdk-go/crypto/cms"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/internal/interop"
)

// times makes a batch of n calls.
func times(n int, call func() error) func() (int, error) {
	return func() (int, error) {
		for range n {
			if err := call(); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
}

// parseEnvelope compares the reading of a KMS envelope, without its decryption.
// Our package exports no parser, only Open, and Open less an RSA decryption
// drowns in that one's noise. So this measures the refusal of an envelope that
// is followed by one byte, which is found when all of it is parsed: parsing,
// and the making of the error besides.
func parseEnvelope() (*suite, error) {
	envelope, key, err := interop.RealEnvelope()
	if err != nil {
		return nil, err
	}
	followed := append(bytes.Clone(envelope), 0)
	recipient, err := cms.NewRecipient(key)
	if err != nil {
		return nil, err
	}
	return &suite{
		title: fmt.Sprintf("Parsing a KMS envelope of %d bytes", len(envelope)),
		contestants: []contestant{
			{name: "edgebit, Parse", batch: times(1000, func() error {
				_, err := edgebit.Parse(envelope)
				return err
			})},
			{name: "keyvouch, parsing and refusing", batch: times(1000, func() error {
				_, err := recipient.Open(followed)
				if refused, ok := errors.AsType[*cms.Error](err); !ok || refused.Reason != cms.ReasonTrailingBytes || refused.Offset != len(envelope) {
					return fmt.Errorf("an envelope followed by a byte: %v", err)
				}
				return nil
			})},
		},
	}, nil
}

// openEnvelope compares the opening of a KMS envelope with the one RSA
// decryption in it.
func openEnvelope() (*suite, error) {
	envelope, key, err := interop.RealEnvelope()
	if err != nil {
		return nil, err
	}
	recipient, err := cms.NewRecipient(key)
	if err != nil {
		return nil, err
	}
	// The decrypted bytes do not matter to the cost, so any key of 32 bytes will
	// do in place of the envelope's.
	encryptedKey, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, make([]byte, 32), nil)
	if err != nil {
		return nil, err
	}
	return &suite{
		title: fmt.Sprintf("Opening a KMS envelope for an RSA key of %d bits", key.N.BitLen()),
		contestants: []contestant{
			{name: "crypto/rsa, DecryptOAEP alone", batch: times(100, func() error {
				_, err := rsa.DecryptOAEP(sha256.New(), nil, key, encryptedKey, nil)
				return err
			})},
			{name: "keyvouch, Open", batch: times(100, func() error {
				_, err := recipient.Open(envelope)
				return err
			})},
			{name: "edgebit, DecryptEnvelopedKey", batch: times(100, func() error {
				_, err := edgebit.DecryptEnvelopedKey(key, envelope)
				return err
			})},
		},
	}, nil
}
