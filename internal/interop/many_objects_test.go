package interop_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"sync"
	"time"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// A service decrypts 2000 objects of the AWS Encryption SDK with two KMS calls.
//
// With the SDK's AWS KMS keyring each object costs a call, since KMS decrypts
// the data key of each. In some other languages the SDK saves most of them by
// data key caching, with a caching cryptographic materials manager. The one for
// Go has none (encryption-sdk v0.4.0, mpl v0.4.0): it makes caches of
// materials, but only its hierarchical keyring uses one. That keyring doesn't
// suit encryption outside, for it needs kms:Decrypt to encrypt too; and it keeps
// its keys in DynamoDB, which the enclave must then reach through its parent as
// well. Where all that encrypts is attested, it works: TestHierarchicalKeyring.
//
// This is the same hierarchy without a table: a KMS key encrypts wrapping keys,
// and a wrapping key, in the SDK's raw AES keyring, the data keys of a batch of
// objects. Only wrapping keys cost calls. Each object still has a data key and
// an encryption context of its own; a caching materials manager reuses a data
// key, and only where the whole encryption context is the same.
//
// What an object says is as true as whoever may kms:Encrypt with the KMS key is
// honest: each of them can make wrapping keys, and objects with them.
func Example_manyObjects() {
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
	// Whoever writes needs kms:Encrypt and no more.
	keyARN, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))})
	if err != nil {
		log.Fatal(err)
	}

	// Outside, with a plain KMS client.
	outside := kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
	var objects []object
	for len(objects) < 2000 {
		batch, err := encryptBatch(ctx, outside, keyARN, len(objects))
		if err != nil {
			log.Fatal(err)
		}
		objects = append(objects, batch...)
	}
	encrypted := len(server.Requests())
	fmt.Printf("%d objects encrypted with %d KMS calls\n", len(objects), encrypted)

	// Inside, with the attested one.
	session := nsm.NewSession(device) // in an enclave: nsm.Open()
	defer func() { _ = session.Close() }()
	endpoint, err := vsockproxy.ParseEndpoint("tcp://" + server.Addr()) // in an enclave: "vsock://3:8000"
	if err != nil {
		log.Fatal(err)
	}
	dialer := &vsockproxy.Dialer{Endpoint: endpoint}
	inside, err := kmsclient.New(ctx, server.Config(), session, kmsclient.Options{
		KeyIDs:  []string{keyARN}, // wrapping keys of no other KMS key are taken
		Dial:    dialer.DialContext,
		RootCAs: server.RootCAs(), // in an enclave: leave it out, for Amazon's
	})
	if err != nil {
		log.Fatal(err)
	}
	r := &reader{client: inside}
	for _, o := range objects {
		plaintext, err := r.decrypt(ctx, o)
		if err != nil {
			log.Fatal(err)
		}
		if want := "what was ordered in " + o.name; string(plaintext) != want {
			log.Fatalf("%q instead of %q", plaintext, want)
		}
	}
	decrypts := server.Requests()[encrypted:]
	for _, request := range decrypts {
		if request.Operation != "Decrypt" || !request.Recipient {
			log.Fatalf("a request without attestation: %+v", request)
		}
	}
	fmt.Printf("%d objects decrypted with %d KMS calls\n", len(objects), len(decrypts))

	// The storage is the parent's. It gives one object for another, and then
	// changes the name in it too: the encryption context is authenticated.
	swapped := object{name: objects[1].name, wrappedKey: objects[0].wrappedKey, message: objects[0].message}
	_, err = r.decrypt(ctx, swapped)
	fmt.Println("swapped: refused:", err != nil)
	was, is := []byte(objects[0].name), []byte(objects[1].name)
	if bytes.Count(swapped.message, was) != 1 {
		log.Fatal("the message doesn't have its name in the clear")
	}
	renamed := object{name: objects[1].name, wrappedKey: objects[0].wrappedKey, message: bytes.Replace(swapped.message, was, is, 1)}
	_, err = r.decrypt(ctx, renamed)
	fmt.Println("renamed: refused:", err != nil)
	// Output:
	// 2000 objects encrypted with 2 KMS calls
	// 2000 objects decrypted with 2 KMS calls
	// swapped: refused: true
	// renamed: refused: true
}

const (
	// The writer takes a new wrapping key after this many objects (and should
	// after a day, if it writes fewer), so that no key opens more than these.
	// The cipher would allow far more: the raw AES keyring uses the key once for
	// each object, in AES-GCM with a random nonce, which is good for 2^32 times
	// (NIST SP 800-38D, section 8.3).
	objectsPerKey = 1000

	// The reader holds so many wrapping keys and uses one for so long. KMS is
	// asked for a key, and so the key policy and CloudTrail are, only when the
	// reader has it no longer: an image that has lost its permission can go on
	// for maxKeyAge.
	maxKeys   = 16
	maxKeyAge = time.Hour
)

// keyContext is KMS's encryption context of wrapping keys: nothing else that the
// KMS key has encrypted passes for one.
var keyContext = map[string]string{"purpose": "wrapping key of orders"}

// object is what there is in the storage.
type object struct {
	name       string
	wrappedKey []byte // by KMS; the same for the whole batch
	message    []byte // of the Encryption SDK
}

// encryptBatch makes objectsPerKey objects with a new wrapping key.
func encryptBatch(ctx context.Context, client *kms.Client, keyARN string, first int) ([]object, error) {
	wrappingKey := make([]byte, 32)
	if _, err := rand.Read(wrappingKey); err != nil {
		return nil, err
	}
	wrapped, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(keyARN), Plaintext: wrappingKey, EncryptionContext: keyContext})
	if err != nil {
		return nil, err
	}
	keyring, err := newKeyring(ctx, wrappingKey)
	if err != nil {
		return nil, err
	}
	sdk, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		return nil, err
	}
	// With key commitment, as the SDK demands by default, but without the
	// default's signature on each message, which is for readers who must not be
	// able to write: these have the wrapping key.
	suite := mpltypes.ESDKAlgorithmSuiteIdAlgAes256GcmHkdfSha512CommitKey
	batch := make([]object, objectsPerKey)
	for i := range batch {
		name := fmt.Sprintf("order-%06d", first+i)
		out, err := sdk.Encrypt(ctx, esdktypes.EncryptInput{
			Plaintext:         []byte("what was ordered in " + name),
			EncryptionContext: map[string]string{"name": name},
			Keyring:           keyring,
			AlgorithmSuiteId:  &suite,
		})
		if err != nil {
			return nil, err
		}
		batch[i] = object{name: name, wrappedKey: wrapped.CiphertextBlob, message: out.Ciphertext}
	}
	return batch, nil
}

func newKeyring(ctx context.Context, wrappingKey []byte) (mpltypes.IKeyring, error) {
	providers, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		return nil, err
	}
	return providers.CreateRawAesKeyring(ctx, mpltypes.CreateRawAesKeyringInput{
		KeyNamespace: "example",
		KeyName:      "wrapping key of orders",
		WrappingKey:  wrappingKey,
		WrappingAlg:  mpltypes.AesWrappingAlgAlgAes256GcmIv12Tag16,
	})
}

// reader decrypts objects, by many goroutines if need be.
type reader struct {
	client *kms.Client

	mu   sync.Mutex
	keys map[string]heldKey // by wrappedKey
}

type heldKey struct {
	keyring mpltypes.IKeyring
	since   time.Time
}

func (r *reader) decrypt(ctx context.Context, o object) ([]byte, error) {
	keyring, err := r.keyring(ctx, o.wrappedKey)
	if err != nil {
		return nil, fmt.Errorf("the wrapping key of %s: %w", o.name, err)
	}
	sdk, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		return nil, err
	}
	out, err := sdk.Decrypt(ctx, esdktypes.DecryptInput{
		Ciphertext:        o.message,
		EncryptionContext: map[string]string{"name": o.name}, // must be in the message
		Keyring:           keyring,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	return out.Plaintext, nil
}

// keyring asks KMS for a wrapping key unless it is held. Others wait meanwhile:
// a batch that many ask for at once is one call.
func (r *reader) keyring(ctx context.Context, wrappedKey []byte) (mpltypes.IKeyring, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held, ok := r.keys[string(wrappedKey)]; ok && time.Since(held.since) < maxKeyAge {
		return held.keyring, nil
	}
	out, err := r.client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: wrappedKey, EncryptionContext: keyContext})
	if err != nil {
		return nil, err
	}
	keyring, err := newKeyring(ctx, out.Plaintext)
	if err != nil {
		return nil, err
	}
	if r.keys == nil || len(r.keys) >= maxKeys {
		r.keys = map[string]heldKey{}
	}
	r.keys[string(wrappedKey)] = heldKey{keyring, time.Now()}
	return keyring, nil
}
