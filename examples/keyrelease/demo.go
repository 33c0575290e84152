package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

const region = "eu-central-1"

// demonstrate plays all the parties in this one process.
func demonstrate(ctx context.Context, r *report, tamper string) error {
	attack := attackNamed(tamper)
	r.printf("An attested key release on this machine; NSM, parent and KMS are stand-ins.\n\n")

	// The owner names the image that may have the secret: this program.
	image, err := ownImage()
	if err != nil {
		return err
	}
	pcr0, pcr1, pcr2 := nsmtest.Measure(image)
	expected := attestation.Measurement{Name: "this program", PCRs: map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2}}
	r.step("owner", fmt.Sprintf("built and measured the image, %d bytes", len(image)), pcrFacts(expected.PCRs)...)

	// In reality these are AWS's: the root that certifies NSMs, and KMS.
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{})
	if err != nil {
		return err
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: pki.Root(), Region: region})
	if err != nil {
		return err
	}
	defer server.Close()
	key, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(
		kmstest.PCREquals(0, pcr0), kmstest.PCREquals(1, pcr1), kmstest.PCREquals(2, pcr2))})
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	ciphertext, err := seal(ctx, server, key, secret)
	if err != nil {
		return err
	}
	digest := sha256.Sum256(secret)
	r.step("owner", "encrypted a secret under a KMS key that only this image may use",
		fact{"key", key}, fact{"SHA-256", hex.EncodeToString(digest[:])})

	if attack.name != "" {
		r.step("parent", "ATTACK: "+attack.does)
	}
	enclave, err := startEnclave(attack, image, pki)
	if err != nil {
		return err
	}
	session := nsm.NewSession(enclave)
	defer session.Close()

	if err := showMeasurement(ctx, r, session); err != nil {
		return err
	}
	trust := attestation.Policy{Measurements: []attestation.Measurement{expected}, Roots: rootsOf(pki)}
	if err := relyingParty(ctx, r, session, trust, attack); err != nil {
		return err
	}
	if attack.stopsAtVerifier {
		return mustBeRefused(r)
	}

	target := server
	if attack.name == "proxy" {
		// Its certificate has KMS's name, but comes from another authority.
		target, err = kmstest.NewServer(kmstest.Options{AttestationRoot: pki.Root(), Region: region})
		if err != nil {
			return err
		}
		defer target.Close()
	}
	parent, err := startParent(ctx, target.Addr())
	if err != nil {
		return err
	}
	defer parent.stop()
	r.step("parent", "started its proxy", fact{"listens on", parent.endpoint.String()}, fact{"forwards to", target.Addr() + ", and nowhere else"})

	released, err := release(ctx, r, session, releaseRequest{
		config: server.Config(), proxy: parent.endpoint, keyID: key, ciphertext: ciphertext, roots: server.RootCAs(),
	})
	if err != nil {
		return err
	}
	if err := parent.stop(); err != nil {
		return err
	}
	if err := showWhatProxySaw(r, parent.tap, secret); err != nil {
		return err
	}
	if attack.name != "" {
		return mustBeRefused(r)
	}
	// Without an attack, the report has any refusal. What is released must be the
	// secret.
	if r.SHA256 != "" && !bytes.Equal(released, secret) {
		return errors.New("what was released is not the secret")
	}
	return nil
}

// ownImage reads this program's executable, which plays the image.
func ownImage() ([]byte, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// seal encrypts the secret as its owner does, outside any enclave.
func seal(ctx context.Context, server *kmstest.Server, key string, secret []byte) ([]byte, error) {
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(key), Plaintext: secret})
	if err != nil {
		return nil, err
	}
	return out.CiphertextBlob, nil
}
