package kmsclient_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// An enclave decrypts a secret that only its image may decrypt. The NSM and
// KMS are stand-ins for tests; comments say what is different in an enclave.
func Example() {
	ctx := context.Background()
	image := []byte("the enclave's image")
	device, err := nsmtest.New(nsmtest.Options{Image: image})
	if err != nil {
		log.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root()})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	pcr0, _, _ := nsmtest.Measure(image)
	keyARN, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))})
	if err != nil {
		log.Fatal(err)
	}

	session := nsm.NewSession(device) // in an enclave: nsm.Open()
	defer func() { _ = session.Close() }()
	endpoint, err := vsockproxy.ParseEndpoint("tcp://" + server.Addr()) // in an enclave: "vsock://3:8000"
	if err != nil {
		log.Fatal(err)
	}
	dialer := &vsockproxy.Dialer{Endpoint: endpoint}
	client, err := kmsclient.New(ctx, server.Config(), session, kmsclient.Options{
		KeyIDs:  []string{keyARN},
		Dial:    dialer.DialContext,
		RootCAs: server.RootCAs(), // in an enclave: leave it out, for Amazon's
	})
	if err != nil {
		log.Fatal(err)
	}

	sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(keyARN), Plaintext: []byte("the database password")})
	if err != nil {
		log.Fatal(err)
	}
	out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", out.Plaintext)
	// Output: the database password
}

// Code that makes its clients with kms.NewFromConfig gets an option.
func ExampleAttested() {
	ctx := context.Background()
	image := []byte("the enclave's image")
	device, err := nsmtest.New(nsmtest.Options{Image: image})
	if err != nil {
		log.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root()})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	pcr0, _, _ := nsmtest.Measure(image)
	keyARN, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))})
	if err != nil {
		log.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer func() { _ = session.Close() }()
	endpoint, err := vsockproxy.ParseEndpoint("tcp://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}

	option, err := kmsclient.Attested(ctx, session, kmsclient.Options{
		KeyIDs:  []string{keyARN},
		Dial:    (&vsockproxy.Dialer{Endpoint: endpoint}).DialContext,
		RootCAs: server.RootCAs(),
	})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.NewFromConfig(server.Config(), option) // last, if there are others

	key, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(keyARN), KeySpec: types.DataKeySpecAes256})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(key.Plaintext), "bytes")
	// Output: 32 bytes
}

// In an enclave whose parent forwards its instance metadata service to vsock
// port 8001. Here an option has the credentials, so it isn't asked.
func ExampleLoadConfig() {
	dialer := &vsockproxy.Dialer{Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 8001)}
	cfg, err := kmsclient.LoadConfig(context.Background(), kmsclient.ConfigOptions{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""), // leave it out for the role's
		DialIMDS:    dialer.DialContext,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cfg.Region) // and on to kmsclient.New
	// Output: eu-west-1
}

// KMS denies the key to an enclave in debug mode, whose PCRs are zeros, and the
// error says where to look.
func ExampleError() {
	ctx := context.Background()
	image := []byte("the enclave's image")
	device, err := nsmtest.New(nsmtest.Options{Image: image, Debug: true})
	if err != nil {
		log.Fatal(err)
	}
	server, err := kmstest.NewServer(kmstest.Options{AttestationRoot: device.Root(), WithoutIAMPermissions: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	pcr0, _, _ := nsmtest.Measure(image)
	keyARN, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))})
	if err != nil {
		log.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer func() { _ = session.Close() }()
	endpoint, err := vsockproxy.ParseEndpoint("tcp://" + server.Addr())
	if err != nil {
		log.Fatal(err)
	}
	client, err := kmsclient.New(ctx, server.Config(), session, kmsclient.Options{
		KeyIDs:  []string{keyARN},
		Dial:    (&vsockproxy.Dialer{Endpoint: endpoint}).DialContext,
		RootCAs: server.RootCAs(),
	})
	if err != nil {
		log.Fatal(err)
	}

	out, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: aws.String(keyARN), KeySpec: types.DataKeySpecAes256})
	var e *kmsclient.Error
	if errors.As(err, &e) {
		fmt.Println(out, e.Op, e.Reason)
		fmt.Println(e.Code, "debug mode:", e.Debug)
		fmt.Println("PCR0:", e.PCRs[0])
	}
	// Output:
	// <nil> GenerateDataKey access-denied
	// AccessDeniedException debug mode: true
	// PCR0: 000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
}

// An alias can't be pinned, and nothing is made of options that can't be meant.
func ExampleNew_refused() {
	device, err := nsmtest.New(nsmtest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer func() { _ = session.Close() }()

	_, err = kmsclient.New(context.Background(), aws.Config{Region: "eu-west-1"}, session, kmsclient.Options{KeyIDs: []string{"alias/orders"}})
	fmt.Println(err)
	// Output:
	// kmsclient: New: invalid-options: Options.KeyIDs: "alias/orders": an alias cannot be pinned, since it can be pointed to another key at any time; KeyIDs takes full key ARNs: arn:<partition>:kms:<region>:<account>:key/<key ID>
}
