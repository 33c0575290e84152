package interop

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
)

// RealEnvelope returns an envelope that KMS made and its private key. They
// stand as strings in a test of another SDK.
func RealEnvelope() (envelope []byte, key *rsa.PrivateKey, err error) {
	dir, err := ModuleDir("github.com/edgebitio/nitro-enclaves-sdk-go")
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "crypto/cms/cms_test.go")
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	literals, err := stringLiterals(path, source)
	if err != nil {
		return nil, nil, err
	}
	var keys []*rsa.PrivateKey
	var envelopes [][]byte
	for _, s := range literals {
		if block, _ := pem.Decode([]byte(s)); block != nil {
			key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
			keys = append(keys, key)
		} else if b, ok := decodeBase64(s); ok && bytes.HasPrefix(b, []byte{0x30, 0x80}) {
			envelopes = append(envelopes, b)
		}
	}
	if len(keys) != 1 || len(envelopes) != 1 {
		return nil, nil, fmt.Errorf("%s: %d private keys and %d envelopes, not one of each", path, len(keys), len(envelopes))
	}
	return envelopes[0], keys[0], nil
}
