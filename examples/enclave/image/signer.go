package main

import (
	"crypto"
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// readSigner reads what signs the image. Of several certificates the first counts, as
// for AWS's tools.
func readSigner(keyFile, certificateFile string, now time.Time) (*eif.Signer, error) {
	certificate, err := os.ReadFile(certificateFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	// TLS keeps the two in the same forms, and compares them.
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: want a certificate and its private key in PEM, the key not encrypted: %w", certificateFile, keyFile, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T can't sign", keyFile, pair.PrivateKey)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s: expired on %s, and nitro-cli doesn't run images of such; a new certificate makes another PCR8, also for the same key",
			certificateFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &eif.Signer{Key: signer, Certificate: pair.Leaf}, nil
}
