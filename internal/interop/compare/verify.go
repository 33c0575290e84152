package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	anjuna "github.com/anjuna-security/go-nitro-attestation/attestdoc"
	blocky "github.com/blocky/nitrite"
	hf "github.com/hf/nitrite"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/interop"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// document is a document, the time to verify it at, and its root.
type document struct {
	raw   []byte
	at    time.Time
	roots []*x509.Certificate
}

var expectAt = func(d document) attestation.Expect {
	return attestation.Expect{At: d.at, UnsafeAnyNonce: true}
}

func newVerifier(d document, disableCache bool) (*attestation.Verifier, error) {
	return attestation.NewVerifier(attestation.Policy{
		UnsafeAnyMeasurement: true, UnsafeAllowDebug: true, Roots: d.roots, DisableCache: disableCache,
	})
}

// over makes a batch of one call for each document.
func over(documents []document, verify func(document) error) func() (int, error) {
	return func() (int, error) {
		for _, d := range documents {
			if err := verify(d); err != nil {
				return 0, err
			}
		}
		return len(documents), nil
	}
}

func hfVerify(d document) error {
	options := hf.VerifyOptions{CurrentTime: d.at}
	if d.roots != nil {
		options.Roots = x509.NewCertPool()
		options.Roots.AddCert(d.roots[0])
	}
	_, err := hf.Verify(d.raw, options)
	return err
}

// anjunaVerify verifies as of the document's time: that peer's clock is a
// variable.
func anjunaVerify(d document) error {
	anjuna.Now = func() time.Time { return d.at }
	signed, err := anjuna.FromBytes(d.raw)
	if err != nil {
		return err
	}
	return signed.Validate()
}

// verifyReal compares verifiers on documents that AWS signed, as of their own
// time, since they have expired. What cannot be told a time is not among them.
func verifyReal() (*suite, error) {
	documents, err := realDocuments()
	if err != nil {
		return nil, err
	}
	ours := func(disableCache bool) (func(document) error, error) {
		v, err := newVerifier(documents[0], disableCache)
		return func(d document) error {
			_, err := v.Verify(d.raw, expectAt(d))
			return err
		}, err
	}
	uncached, err := ours(true)
	if err != nil {
		return nil, err
	}
	cached, err := ours(false)
	if err != nil {
		return nil, err
	}
	if _, err := over(documents, cached)(); err != nil { // so that the leaves are known
		return nil, err
	}
	other, err := blocky.New(blocky.WithVerificationTime(blocky.AttestationTime), blocky.WithAllowDebug(true))
	if err != nil {
		return nil, err
	}
	return &suite{
		title: fmt.Sprintf("Verifying %d real documents of 4 CA certificates each", len(documents)),
		contestants: []contestant{
			{name: "hf/nitrite", batch: over(documents, hfVerify)},
			{name: "blocky/nitrite", batch: over(documents, func(d document) error {
				_, err := other.Verify(d.raw)
				return err
			})},
			{name: "anjuna", batch: over(documents, anjunaVerify)},
			{name: "keyvouch, uncached", batch: over(documents, uncached)},
			{name: "keyvouch, leaf cached", batch: over(documents, cached)},
			// The least that a verifier on the standard library can take.
			{name: "crypto/ecdsa, one signature", batch: over(documents, verifySignature)},
		},
	}, nil
}

// verifySignature verifies one P-384 signature, that of the AWS root on itself.
func verifySignature(document) error {
	root := awsRoot()
	return root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature)
}

var awsRoot = sync.OnceValue(attestation.AWSNitroRoot)

// verifyCached compares on documents of one instance whose certificate changes
// every three hours, as it does in reality. No two real documents at hand share
// their CA certificates, so these are a software NSM's, of the same shape.
func verifyCached() (*suite, error) {
	const leaves = 6
	documents, err := softwareDocuments(leaves)
	if err != nil {
		return nil, err
	}
	first, later := documents[0], documents[1:]
	uncached, err := newVerifier(first, true)
	if err != nil {
		return nil, err
	}
	const verifiers = 20
	var known []*attestation.Verifier
	return &suite{
		title: fmt.Sprintf("Verifying %d software documents of new leaves under known CA certificates", len(later)),
		contestants: []contestant{
			{name: "hf/nitrite", batch: over(later, hfVerify)},
			{name: "keyvouch, uncached", batch: over(later, func(d document) error {
				_, err := uncached.Verify(d.raw, expectAt(d))
				return err
			})},
			{
				name: "keyvouch, CAs cached",
				// A verifier knows the leaf after one document, so each meets
				// each leaf once.
				setUp: func() error {
					known = nil
					for range verifiers {
						v, err := newVerifier(first, false)
						if err != nil {
							return err
						}
						if _, err := v.Verify(first.raw, expectAt(first)); err != nil {
							return err
						}
						known = append(known, v)
					}
					return nil
				},
				batch: func() (int, error) {
					for _, v := range known {
						for _, d := range later {
							if _, err := v.Verify(d.raw, expectAt(d)); err != nil {
								return 0, err
							}
						}
					}
					return len(known) * len(later), nil
				},
			},
		},
	}, nil
}

// realDocuments are those that Go modules carry in their test data as files.
func realDocuments() ([]document, error) {
	const anjuna, blocky = "github.com/anjuna-security/go-nitro-attestation", "github.com/blocky/nitrite"
	dirs := map[string]string{}
	for _, path := range []string{anjuna, blocky} {
		dir, err := interop.ModuleDir(path)
		if err != nil {
			return nil, err
		}
		dirs[path] = dir
	}
	var documents []document
	for _, path := range []string{
		filepath.Join(dirs[anjuna], "attestdoc/testdata/sample_prod_doc.bin"),
		filepath.Join(dirs[anjuna], "attestdoc/testdata/sample_prod_doc_with_publickey.bin"),
		filepath.Join(dirs[anjuna], "attester/testdata/sample_attestation_doc_full.bin"),
		filepath.Join(dirs[anjuna], "attester/testdata/sample_prod_doc.bin"),
		filepath.Join(dirs[blocky], "internal/testdata/nitro_attestation.b64"),
		filepath.Join(dirs[blocky], "internal/testdata/nitro_attestation_debug.b64"),
	} {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if filepath.Ext(path) == ".b64" {
			if raw, err = base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw))); err != nil {
				return nil, err
			}
		}
		claims, err := attestation.ParseUnverified(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		documents = append(documents, document{raw: raw, at: claims.Timestamp})
	}
	return documents, nil
}

// softwareDocuments are of one software NSM, each signed with another leaf.
func softwareDocuments(n int) ([]document, error) {
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("image"), Clock: func() time.Time { return clock }})
	if err != nil {
		return nil, err
	}
	session := nsm.NewSession(device)
	defer session.Close()
	var documents []document
	var leaves [][]byte
	for range n {
		raw, err := session.Attest(context.Background(), nsm.AttestationRequest{UserData: make([]byte, 64)})
		if err != nil {
			return nil, err
		}
		claims, err := attestation.ParseUnverified(raw)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(leaves, func(leaf []byte) bool { return bytes.Equal(leaf, claims.Certificate) }) {
			return nil, errors.New("two documents have the same leaf")
		}
		leaves = append(leaves, claims.Certificate)
		documents = append(documents, document{raw: raw, at: clock, roots: []*x509.Certificate{device.Root()}})
		clock = clock.Add(3*time.Hour + 4*time.Second)
	}
	return documents, nil
}
