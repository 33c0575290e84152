package kmstest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// A key that only one enclave image may use, asked for by that image and by
// someone without an enclave. Package kmsclient does what is done here by hand:
// the document, the Recipient parameter and the opening of the answer.
func Example() {
	ctx := context.Background()
	device, err := nsmtest.New(nsmtest.Options{Image: []byte("release 4.1")})
	if err != nil {
		log.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root()})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	arn, err := server.CreateKey(kmstest.KeyOptions{
		Policy: kmstest.AllowAttested(kmstest.PCREquals(0, device.PCR(0))),
	})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })

	// Without an attestation document.
	_, err = client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256})
	if apiErr, ok := errors.AsType[smithy.APIError](err); ok {
		fmt.Println("parent:", apiErr.ErrorCode())
	}

	// With one.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		log.Fatal(err)
	}
	document, err := nsm.NewSession(device).Attest(ctx, nsm.AttestationRequest{PublicKey: spki})
	if err != nil {
		log.Fatal(err)
	}
	out, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId:   &arn,
		KeySpec: types.DataKeySpecAes256,
		Recipient: &types.RecipientInfo{
			AttestationDocument:    document,
			KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("enclave: plaintext in the answer:", out.Plaintext != nil, "envelope:", len(out.CiphertextForRecipient), "bytes")
	for _, request := range server.Requests() {
		fmt.Println("server:", request.Operation, request.Recipient, request.ErrorCode)
	}
	// Output:
	// parent: AccessDeniedException
	// enclave: plaintext in the answer: false envelope: 493 bytes
	// server: GenerateDataKey false AccessDeniedException
	// server: GenerateDataKey true
}

// The policy of the production key, as it stands in a file.
func ExampleParsePolicy() {
	policy, err := kmstest.ParsePolicy([]byte(`{
		"Version": "2012-10-17",
		"Statement": [{
			"Effect": "Allow",
			"Principal": {"AWS": "arn:aws:iam::111122223333:role/enclave"},
			"Action": "kms:Decrypt",
			"Resource": "*",
			"Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": "EXAMPLE"}}
		}]
	}`))
	fmt.Println(policy, err)
	// Output:
	// <nil> kmstest: invalid-policy: statement 0: condition key "kms:RecipientAttestation:PCR0": value "EXAMPLE" is not a PCR in hexadecimal, 96 digits; it can never match
}
