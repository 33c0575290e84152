package kmstest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
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

// A client that is throttled twice and gets its answer from the third attempt.
func ExampleServer_Inject() {
	server, err := kmstest.NewServer(kmstest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	err = server.Inject(kmstest.Fault{Operation: "GenerateRandom", Times: 2, Failure: kmstest.Throttling})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) {
		o.HTTPClient = server.Client()
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil }) // tests do not wait
		})
	})
	out, err := client.GenerateRandom(context.Background(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(out.Plaintext), "bytes")
	for _, request := range server.Requests() {
		fmt.Printf("%s fault=%q error=%q\n", request.Operation, request.Fault, request.ErrorCode)
	}
	// Output:
	// 32 bytes
	// GenerateRandom fault="throttling" error="ThrottlingException"
	// GenerateRandom fault="throttling" error="ThrottlingException"
	// GenerateRandom fault="" error=""
}

// A policy as JSON that asks for an encryption context, and what it lets through.
func ExampleParsePolicy_encryptionContext() {
	policy, err := kmstest.ParsePolicy([]byte(`{
		"Version": "2012-10-17",
		"Statement": [{
			"Sid": "OneTenant",
			"Effect": "Allow",
			"Principal": {"AWS": "arn:aws:iam::111122223333:role/enclave"},
			"Action": "kms:GenerateDataKey",
			"Resource": "*",
			"Condition": {
				"StringEquals": {"kms:EncryptionContext:tenant": "7"},
				"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["tenant", "order"]}
			}
		}]
	}`))
	if err != nil {
		log.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	arn, err := server.CreateKey(kmstest.KeyOptions{Policy: policy})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	for _, encryptionContext := range []map[string]string{
		{"tenant": "7", "order": "17"},
		{"tenant": "8"},
		{"tenant": "7", "user": "me"},
	} {
		_, _ = client.GenerateDataKey(context.Background(), &kms.GenerateDataKeyInput{
			KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: encryptionContext,
		})
	}
	for _, request := range server.Requests() {
		if request.ErrorCode == "" {
			fmt.Println(request.EncryptionContext, "allowed")
			continue
		}
		fmt.Println(request.EncryptionContext, request.ErrorCode)
		fmt.Println("  ", request.Detail)
	}
	// Output:
	// map[order:17 tenant:7] allowed
	// map[tenant:8] AccessDeniedException
	//    statement "OneTenant": kms:EncryptionContext:tenant StringEquals [7], but it is 8
	// map[tenant:7 user:me] AccessDeniedException
	//    statement "OneTenant": kms:EncryptionContextKeys ForAllValues:StringEquals [tenant order], but it is tenant, user
}

// A template's placeholder in place of a measurement.
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
	// <nil> kmstest: ParsePolicy: invalid-policy: statement 0: condition key "kms:RecipientAttestation:PCR0": value "EXAMPLE" is not a PCR in hexadecimal, 96 digits; it can never match
}
