package kmstest_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/cms"
	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// testKey is one RSA key for the whole test binary: making one takes a while.
var sharedKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return testkeys.Next(2048) })

func testKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := sharedKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func spkiOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newNSM(t testing.TB, options nsmtest.Options) *nsmtest.NSM {
	t.Helper()
	device, err := nsmtest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// attest gets a document the way an enclave does, through a session.
func attest(t testing.TB, device *nsmtest.NSM, publicKey []byte) *types.RecipientInfo {
	t.Helper()
	document, err := nsm.NewSession(device).Attest(context.Background(), nsm.AttestationRequest{PublicKey: publicKey})
	if err != nil {
		t.Fatal(err)
	}
	return &types.RecipientInfo{AttestationDocument: document, KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256}
}

func newPKI(t testing.TB, clock func() time.Time) *nsmtest.PKI {
	t.Helper()
	pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return pki
}

// Each of the five operations gives an attested enclave what it gives others in
// plaintext, encrypted for it, and no plaintext.
func TestRecipientOperations(t *testing.T) {
	for name, form := range map[string]kmstest.EnvelopeForm{"chunked": kmstest.EnvelopeChunked, "primitive": kmstest.EnvelopePrimitive} {
		t.Run(name, func(t *testing.T) {
			device := newNSM(t, nsmtest.Options{Image: []byte("image")})
			server := newServer(t, kmstest.Options{AttestationRoot: device.Root(), EnvelopeForm: form})
			policy := kmstest.AllowAttested(kmstest.PCREquals(0, device.PCR(0)), kmstest.PCREquals(1, device.PCR(1)), kmstest.PCREquals(4, device.PCR(4)))
			arn := createKey(t, server, kmstest.KeyOptions{Policy: policy})
			agreement := createKey(t, server, kmstest.KeyOptions{Spec: types.KeySpecEccNistP256, Policy: policy})
			client := newClient(server)
			key := testKey(t)
			recipient := attest(t, device, spkiOf(t, &key.PublicKey))
			open := func(t *testing.T, envelope []byte) []byte {
				t.Helper()
				plaintext, err := cms.Open(envelope, key)
				if err != nil {
					t.Fatal(err)
				}
				if got := last(t, server); !got.Recipient {
					t.Errorf("recorded %+v", got)
				}
				return plaintext
			}
			decrypt := func(t *testing.T, blob []byte) []byte {
				t.Helper()
				out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: orderContext, Recipient: recipient})
				if err != nil {
					t.Fatal(err)
				}
				if out.Plaintext != nil || out.KeyMaterialId != nil || aws.ToString(out.KeyId) != arn || len(out.CiphertextForRecipient) > 6144 {
					t.Errorf("answer has a plaintext or the wrong key")
				}
				return open(t, out.CiphertextForRecipient)
			}

			t.Run("Decrypt", func(t *testing.T) {
				for _, size := range []int{1, 15, 16, 17, 999, 1000, 2000, 4096} {
					want := bytes.Repeat([]byte{7}, size)
					sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: want, EncryptionContext: orderContext})
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(decrypt(t, sealed.CiphertextBlob), want) {
						t.Errorf("%d bytes: another plaintext", size)
					}
				}
			})
			t.Run("GenerateDataKey", func(t *testing.T) {
				out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256, EncryptionContext: orderContext, Recipient: recipient})
				if err != nil {
					t.Fatal(err)
				}
				if out.Plaintext != nil || out.KeyMaterialId != nil {
					t.Error("answer has a plaintext")
				}
				if got := open(t, out.CiphertextForRecipient); len(got) != 32 || !bytes.Equal(got, decrypt(t, out.CiphertextBlob)) {
					t.Error("the two copies of the data key differ")
				}
			})
			t.Run("GenerateDataKeyPair", func(t *testing.T) {
				out, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &arn, KeyPairSpec: types.DataKeyPairSpecRsa2048, EncryptionContext: orderContext, Recipient: recipient})
				if err != nil {
					t.Fatal(err)
				}
				if out.PrivateKeyPlaintext != nil || out.KeyMaterialId != nil {
					t.Error("answer has a plaintext")
				}
				der := open(t, out.CiphertextForRecipient)
				private, err := x509.ParsePKCS8PrivateKey(der)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(spkiOf(t, &private.(*rsa.PrivateKey).PublicKey), out.PublicKey) || !bytes.Equal(der, decrypt(t, out.PrivateKeyCiphertextBlob)) {
					t.Error("the parts of the pair do not fit")
				}
			})
			t.Run("GenerateRandom", func(t *testing.T) {
				out, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024), Recipient: recipient})
				if err != nil {
					t.Fatal(err)
				}
				if out.Plaintext != nil || len(open(t, out.CiphertextForRecipient)) != 1024 {
					t.Error("answer has a plaintext or the wrong length")
				}
			})
			t.Run("DeriveSharedSecret", func(t *testing.T) {
				peer, err := ecdh.P256().GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				out, err := client.DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: &agreement, PublicKey: spkiOf(t, peer.PublicKey()), KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, Recipient: recipient})
				if err != nil {
					t.Fatal(err)
				}
				if out.SharedSecret != nil || len(open(t, out.CiphertextForRecipient)) != 32 {
					t.Error("answer has a plaintext or the wrong length")
				}
			})
		})
	}
}

// All sizes of recipient keys, and the largest thing that is delivered.
func TestRecipientKeySizes(t *testing.T) {
	device := newNSM(t, nsmtest.Options{})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	arn := createKey(t, server, kmstest.KeyOptions{})
	client := newClient(server)
	for _, bits := range []int{3072, 4096} {
		if testing.Short() && bits == 4096 {
			continue
		}
		key, err := testkeys.Next(bits)
		if err != nil {
			t.Fatal(err)
		}
		recipient := attest(t, device, spkiOf(t, &key.PublicKey))
		sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: make([]byte, 4096)})
		if err != nil {
			t.Fatal(err)
		}
		out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, Recipient: recipient})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := cms.Open(out.CiphertextForRecipient, key); err != nil || !bytes.Equal(got, make([]byte, 4096)) {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}

func TestPolicyJudgesTheRecipient(t *testing.T) {
	pki := newPKI(t, nil)
	right := newNSM(t, nsmtest.Options{Image: []byte("right"), PKI: pki, RoleARN: "arn:aws:iam::111122223333:role/enclave"})
	wrong := newNSM(t, nsmtest.Options{Image: []byte("wrong"), PKI: pki})
	debug := newNSM(t, nsmtest.Options{Image: []byte("right"), PKI: pki, Debug: true})
	server := newServer(t, kmstest.Options{AttestationRoot: pki.Root()})
	client := newClient(server)
	spki := spkiOf(t, &testKey(t).PublicKey)
	image := kmstest.Condition{Operator: kmstest.StringEqualsIgnoreCase, Key: kmstest.ImageSha384, Values: kmstest.PCREquals(0, right.PCR(0)).Values}
	upper := kmstest.Condition{Operator: kmstest.StringEquals, Key: kmstest.ImageSha384, Values: []string{strings.ToUpper(image.Values[0])}}
	upperIgnored := upper
	upperIgnored.Operator = kmstest.StringEqualsIgnoreCase
	deny := kmstest.Policy{Statements: []kmstest.Statement{
		{Effect: kmstest.Allow, Principals: []string{"*"}, Actions: []string{"kms:*"}},
		{Sid: "OnlyRight", Effect: kmstest.Deny, Principals: []string{"*"}, Actions: []string{"kms:Decrypt"},
			Conditions: []kmstest.Condition{{Operator: kmstest.StringNotEqualsIgnoreCase, Key: kmstest.ImageSha384, Values: image.Values}}},
	}}
	for name, test := range map[string]struct {
		policy    *kmstest.Policy
		recipient *types.RecipientInfo
		because   string // empty: released
		detail    string
	}{
		"right image":         {policy: kmstest.AllowAttested(image), recipient: attest(t, right, spki)},
		"wrong image":         {kmstest.AllowAttested(image), attest(t, wrong, spki), "because no resource-based policy allows the kms:Decrypt action", image.Values[0]},
		"debug mode":          {kmstest.AllowAttested(image), attest(t, debug, spki), "because no resource-based policy allows the kms:Decrypt action", "but it is " + strings.Repeat("0", 96)},
		"debug mode, asked":   {policy: kmstest.AllowAttested(kmstest.PCREquals(0, [48]byte{})), recipient: attest(t, debug, spki)},
		"no recipient":        {kmstest.AllowAttested(image), nil, "because no resource-based policy allows the kms:Decrypt action", "but it is absent"},
		"PCR0 is the image":   {policy: kmstest.AllowAttested(kmstest.PCREquals(0, right.PCR(0))), recipient: attest(t, right, spki)},
		"PCR3":                {policy: kmstest.AllowAttested(image, kmstest.PCREquals(3, right.PCR(3))), recipient: attest(t, right, spki)},
		"other PCR3":          {kmstest.AllowAttested(image, kmstest.PCREquals(3, right.PCR(4))), attest(t, right, spki), "because no resource-based policy allows the kms:Decrypt action", "PCR3"},
		"PCR not in document": {kmstest.AllowAttested(kmstest.PCREquals(31, [48]byte{})), attest(t, right, spki), "because no resource-based policy allows the kms:Decrypt action", "absent"},
		"upper case":          {kmstest.AllowAttested(upper), attest(t, right, spki), "because no resource-based policy allows the kms:Decrypt action", "StringEquals"},
		"upper case, ignored": {policy: kmstest.AllowAttested(upperIgnored), recipient: attest(t, right, spki)},
		"deny, right image":   {policy: &deny, recipient: attest(t, right, spki)},
		"deny, wrong image":   {&deny, attest(t, wrong, spki), "with an explicit deny in a resource-based policy", `"OnlyRight"`},
		"deny, no recipient":  {&deny, nil, "with an explicit deny in a resource-based policy", `"OnlyRight"`},
	} {
		t.Run(name, func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Policy: test.policy})
			sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &arn, Plaintext: []byte("secret")})
			if err != nil {
				t.Fatal(err)
			}
			out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, Recipient: test.recipient})
			if test.because != "" {
				if out != nil {
					t.Fatal("released")
				}
				wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::111122223333:assumed-role/enclave/i-0123456789abcdef0 is not authorized to perform: kms:Decrypt on resource: "+arn+" "+test.because)
				if got := last(t, server); !strings.Contains(got.Detail, test.detail) {
					t.Errorf("detail is %q, want %q", got.Detail, test.detail)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v (%s)", err, last(t, server).Detail)
			}
			if got, err := cms.Open(out.CiphertextForRecipient, testKey(t)); err != nil || string(got) != "secret" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestRecipientIsVerified(t *testing.T) {
	clock := newClock(time.Now())
	device := newNSM(t, nsmtest.Options{Clock: clock.now})
	foreign := newNSM(t, nsmtest.Options{Clock: clock.now})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root(), Clock: clock.now})
	arn := createKey(t, server, kmstest.KeyOptions{}) // even a key open to all
	client := newClient(server)
	spki := spkiOf(t, &testKey(t).PublicKey)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := attest(t, device, spki)
	changed := func(edit func(*types.RecipientInfo)) *types.RecipientInfo {
		r := *good
		r.AttestationDocument = bytes.Clone(r.AttestationDocument)
		edit(&r)
		return &r
	}
	const invalid = "The attestation document in the request is not valid: "
	for name, test := range map[string]struct {
		recipient *types.RecipientInfo
		later     time.Duration
		text      string // empty: released
	}{
		"good":                 {recipient: good},
		"just before 3 h":      {recipient: good, later: 3*time.Hour - time.Minute},
		"expired":              {good, 3*time.Hour + time.Minute, invalid},
		"from the future":      {good, -10 * time.Minute, invalid},
		"foreign root":         {attest(t, foreign, spki), 0, invalid + "attestation: Verify: untrusted-root"},
		"changed byte":         {changed(func(r *types.RecipientInfo) { r.AttestationDocument[len(r.AttestationDocument)-1] ^= 1 }), 0, invalid + "attestation: Verify: signature"},
		"truncated":            {changed(func(r *types.RecipientInfo) { r.AttestationDocument = r.AttestationDocument[:100] }), 0, invalid},
		"trailing byte":        {changed(func(r *types.RecipientInfo) { r.AttestationDocument = append(r.AttestationDocument, 0) }), 0, invalid},
		"no public key":        {attest(t, device, nil), 0, invalid + "public_key is absent"},
		"RSA of 1024 bits":     {attest(t, device, spkiOf(t, &weak.PublicKey)), 0, invalid + "public_key is not an RSA key of 2048, 3072 or 4096 bits"},
		"EC key":               {attest(t, device, spkiOf(t, &curve.PublicKey)), 0, invalid + "public_key is not an RSA key as SubjectPublicKeyInfo"},
		"PKCS #1 key":          {attest(t, device, x509.MarshalPKCS1PublicKey(&testKey(t).PublicKey)), 0, invalid + "public_key is not an RSA key as SubjectPublicKeyInfo"},
		"key, trailing byte":   {attest(t, device, append(bytes.Clone(spki), 0)), 0, invalid + "public_key is not an RSA key as SubjectPublicKeyInfo"},
		"empty document":       {changed(func(r *types.RecipientInfo) { r.AttestationDocument = []byte{} }), 0, "Value at 'recipient.attestationDocument' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		"missing document":     {changed(func(r *types.RecipientInfo) { r.AttestationDocument = nil }), 0, "Value null at 'recipient.attestationDocument'"},
		"document too long":    {changed(func(r *types.RecipientInfo) { r.AttestationDocument = make([]byte, 262145) }), 0, "Member must have length less than or equal to 262144"},
		"document of 262144":   {changed(func(r *types.RecipientInfo) { r.AttestationDocument = make([]byte, 262144) }), 0, invalid},
		"no algorithm":         {changed(func(r *types.RecipientInfo) { r.KeyEncryptionAlgorithm = "" }), 0, "at 'recipient.keyEncryptionAlgorithm'"},
		"algorithm with SHA-1": {changed(func(r *types.RecipientInfo) { r.KeyEncryptionAlgorithm = "RSAES_OAEP_SHA_1" }), 0, "Value 'RSAES_OAEP_SHA_1' at 'recipient.keyEncryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSAES_OAEP_SHA_256]"},
	} {
		t.Run(name, func(t *testing.T) {
			clock.move(test.later)
			defer clock.move(-test.later)
			client := client
			if test.later != 0 { // the SDK signs with its own clock and corrects it once
				client = kms.NewFromConfig(server.Config(), func(o *kms.Options) { o.HTTPClient = server.Client() })
			}
			out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes128, Recipient: test.recipient})
			if test.text != "" {
				if out != nil {
					t.Fatal("released")
				}
				wantCode(t, err, "ValidationException", test.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if out.Plaintext != nil || out.CiphertextForRecipient == nil {
				t.Error("answer has a plaintext")
			}
		})
	}
}

func TestNoRootRefusesEveryRecipient(t *testing.T) {
	device := newNSM(t, nsmtest.Options{})
	server := newServer(t, kmstest.Options{})
	_, err := newClient(server).GenerateRandom(t.Context(), &kms.GenerateRandomInput{
		NumberOfBytes: aws.Int32(1), Recipient: attest(t, device, spkiOf(t, &testKey(t).PublicKey))})
	wantCode(t, err, "ValidationException", "Options.AttestationRoot")
}

// KMS ignores Recipient where an operation has none.
func TestRecipientElsewhere(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	response := send(t, server, "Encrypt", `{"KeyId":"`+arn+`","Plaintext":"AAAA","Recipient":{}}`)
	response.Body.Close()
	if got := last(t, server); response.StatusCode != 200 || !got.Recipient {
		t.Errorf("answer is %d, recorded %+v", response.StatusCode, got)
	}
}

func TestConcurrentUse(t *testing.T) {
	device := newNSM(t, nsmtest.Options{})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	client := newClient(server)
	recipient := attest(t, device, spkiOf(t, &testKey(t).PublicKey))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			arn, err := server.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, device.PCR(0)))})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256, Recipient: recipient}); err != nil {
				t.Error(err)
			}
			if err := server.SetKeyEnabled(arn, false); err != nil {
				t.Error(err)
			}
			server.Requests()
		})
	}
	wait.Wait()
}
