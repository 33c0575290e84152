package kmstest_test

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// allowIf is a policy that allows GenerateDataKey on a condition as JSON has it.
func allowIf(t testing.TB, condition string) *kmstest.Policy {
	t.Helper()
	return parsePolicy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":`+condition+`}]}`)
}

func TestEncryptionContextConditions(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	client := newClient(server)
	type context = map[string]string
	for name, test := range map[string]struct {
		condition        string
		allowed, refused []context
	}{
		"pair": {`{"StringEquals":{"kms:EncryptionContext:tenant":"7"}}`,
			[]context{{"tenant": "7"}, {"tenant": "7", "more": "x"}, {"Tenant": "7"}},
			[]context{nil, {}, {"tenant": "8"}, {"more": "7"}, {"tenant": "07"}, {"tenant": "7", "TENANT": "8"}}},
		"pair, case of the value": {`{"StringEquals":{"kms:EncryptionContext:tenant":"a"}}`,
			[]context{{"tenant": "a"}}, []context{{"tenant": "A"}}},
		"pair, no case": {`{"StringEqualsIgnoreCase":{"KMS:encryptionContext:TENANT":"A"}}`,
			[]context{{"tenant": "a"}}, []context{{"tenant": "b"}}},
		"colons in the name": {`{"StringLike":{"kms:EncryptionContext:aws:s3:arn":"arn:aws:s3:::bucket/*"}}`,
			[]context{{"aws:s3:arn": "arn:aws:s3:::bucket/a/b"}}, []context{{"aws:s3:arn": "arn:aws:s3:::other/a"}, {"aws": "arn:aws:s3:::bucket/a"}}},
		"not": {`{"StringNotEquals":{"kms:EncryptionContext:tenant":"7"}}`,
			[]context{nil, {"tenant": "8"}}, []context{{"tenant": "7"}}},
		"if exists": {`{"StringEqualsIfExists":{"kms:EncryptionContext:tenant":"7"}}`,
			[]context{nil, {"tenant": "7"}}, []context{{"tenant": "8"}}},
		"all names": {`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["tenant","order"]}}`,
			[]context{nil, {"tenant": "7"}, {"tenant": "7", "order": "8"}}, []context{{"tenant": "7", "more": "x"}, {"Tenant": "7"}}},
		"all names, some": {`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"tenant"},"Null":{"kms:EncryptionContextKeys":"false"}}`,
			[]context{{"tenant": "7"}}, []context{nil, {}, {"tenant": "7", "more": "x"}}},
		"any name": {`{"ForAnyValue:StringEqualsIgnoreCase":{"kms:EncryptionContextKeys":"TENANT"}}`,
			[]context{{"tenant": "7"}, {"tenant": "7", "more": "x"}}, []context{nil, {"more": "x"}}},
		"no context": {`{"Null":{"kms:EncryptionContextKeys":"true"}}`,
			[]context{nil, {}}, []context{{"tenant": "7"}}},
	} {
		t.Run(name, func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Policy: allowIf(t, test.condition)})
			for _, allowed := range test.allowed {
				if _, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", EncryptionContext: allowed}); err != nil {
					t.Errorf("%v: %v", allowed, err)
				}
			}
			for _, refused := range test.refused {
				_, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", EncryptionContext: refused})
				if err == nil {
					t.Errorf("%v is allowed", refused)
					continue
				}
				wantCode(t, err, "AccessDeniedException", "because no resource-based policy")
			}
		})
	}
}

func TestAmbiguousContextIsRefusedInADeny(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{Policy: &kmstest.Policy{Statements: []kmstest.Statement{
		{Effect: kmstest.Allow, Principals: []string{"*"}, Actions: []string{"kms:*"}},
		{Effect: kmstest.Deny, Principals: []string{"*"}, Actions: []string{"kms:*"}, Conditions: []kmstest.Condition{kmstest.EncryptionContextEquals("tenant", "7")}},
	}}})
	_, err := newClient(server).GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256",
		EncryptionContext: map[string]string{"tenant": "8", "Tenant": "9"}})
	wantCode(t, err, "AccessDeniedException", "because no resource-based policy")
	if got := last(t, server); !strings.Contains(got.Detail, "more than one value for kms:EncryptionContext:tenant") {
		t.Errorf("recorded %+v", got)
	}
}

// Attestation and encryption context together, and what the record tells.
func TestContextAndAttestation(t *testing.T) {
	device := newNSM(t, nsmtest.Options{Image: []byte("image")})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	arn := createKey(t, server, kmstest.KeyOptions{Policy: kmstest.AllowAttested(
		kmstest.PCREquals(0, device.PCR(0)), kmstest.EncryptionContextEquals("tenant", "7"))})
	spki := spkiOf(t, &testKey(t).PublicKey)
	client := newClient(server)
	input := &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", Recipient: attest(t, device, spki), EncryptionContext: map[string]string{"tenant": "7"}}
	if _, err := client.GenerateDataKey(t.Context(), input); err != nil {
		t.Fatal(err)
	}
	got := last(t, server)
	if got.KeyARN != arn || got.EncryptionContext["tenant"] != "7" || got.Attestation == nil || got.Attestation.PCRs[0] != device.PCR(0) || string(got.Attestation.PublicKey) != string(spki) {
		t.Errorf("recorded %+v", got)
	}
	// The record is its receiver's.
	got.EncryptionContext["tenant"] = "8"
	got.Attestation.PCRs[0] = attestation.PCR{}
	if again := last(t, server); again.EncryptionContext["tenant"] != "7" || again.Attestation.PCRs[0] != device.PCR(0) {
		t.Errorf("the record changed: %+v", again)
	}
	input.EncryptionContext["tenant"] = "8"
	_, err := client.GenerateDataKey(t.Context(), input)
	wantCode(t, err, "AccessDeniedException", "because no resource-based policy")
	if got := last(t, server); !strings.HasSuffix(got.Detail, "kms:EncryptionContext:tenant StringEquals [7], but it is 8") {
		t.Errorf("recorded %+v", got)
	}
}

func TestPCRPatterns(t *testing.T) {
	device := newNSM(t, nsmtest.Options{Image: []byte("image")})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	client := newClient(server)
	pcr := device.PCR(0)
	image := hex.EncodeToString(pcr[:])
	recipient := attest(t, device, spkiOf(t, &testKey(t).PublicKey))
	for name, test := range map[string]struct {
		condition            string
		attested, unattested bool
	}{
		"prefix":       {`{"StringLike":{"kms:RecipientAttestation:ImageSha384":"` + image[:8] + `*"}}`, true, false},
		"other prefix": {`{"StringLike":{"kms:RecipientAttestation:PCR0":["0*f","00*"]}}`, false, false},
		"not like":     {`{"StringNotLike":{"kms:RecipientAttestation:PCR0":"` + image[:8] + `*"}}`, false, true},
		"if exists":    {`{"StringEqualsIfExists":{"kms:RecipientAttestation:PCR0":"` + image + `"}}`, true, true},
		"not if":       {`{"StringNotEqualsIgnoreCaseIfExists":{"kms:RecipientAttestation:PCR0":"` + image + `"}}`, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Policy: allowIf(t, test.condition)})
			for _, with := range []*types.RecipientInfo{recipient, nil} {
				want := test.unattested
				if with != nil {
					want = test.attested
				}
				if _, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", Recipient: with}); (err == nil) != want {
					t.Errorf("attested %t: %v", with != nil, err)
				}
			}
		})
	}
}

// nitroTPM makes a document as a NitroTPM does.
func nitroTPM(t testing.TB, device *nsmtest.NSM, publicKey []byte, pcr4 attestation.PCR) *types.RecipientInfo {
	t.Helper()
	chain, err := device.Chain()
	if err != nil {
		t.Fatal(err)
	}
	pcrs := map[int][]byte{}
	for i := range 24 {
		pcrs[i] = make([]byte, 48)
	}
	pcrs[4] = pcr4[:]
	payload, err := cbor.Marshal(map[string]any{
		"module_id": "i-0123456789abcdef0-tpm0000000000000000", "digest": "SHA384", "timestamp": time.Now().UnixMilli(),
		"nitrotpm_pcrs": pcrs, "certificate": chain.Certificate, "cabundle": chain.CABundle, "public_key": publicKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	document, err := device.SignPayload(payload)
	if err != nil {
		t.Fatal(err)
	}
	return &types.RecipientInfo{AttestationDocument: document, KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256}
}

// A NitroTPM's registers are none of an enclave's, nor the other way round.
func TestNitroTPM(t *testing.T) {
	device := newNSM(t, nsmtest.Options{})
	server := newServer(t, kmstest.Options{AttestationRoot: device.Root()})
	client := newClient(server)
	spki := spkiOf(t, &testKey(t).PublicKey)
	value := device.PCR(4) // of the enclave, so that only the platform differs
	digits := hex.EncodeToString(value[:])
	tpm, enclave := nitroTPM(t, device, spki, value), attest(t, device, spki)
	for name, test := range map[string]struct {
		condition    string
		tpm, enclave bool
	}{
		"NitroTPMPCR4":       {`{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:NitroTPMPCR4":"` + strings.ToUpper(digits) + `"}}`, true, false},
		"other NitroTPMPCR4": {`{"StringEquals":{"kms:RecipientAttestation:NitroTPMPCR4":"` + strings.Repeat("ab", 48) + `"}}`, false, false},
		"PCR4":               {`{"StringEquals":{"kms:RecipientAttestation:PCR4":"` + digits + `"}}`, false, true},
		"no image":           {`{"Null":{"kms:RecipientAttestation:ImageSha384":"true"}}`, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			arn := createKey(t, server, kmstest.KeyOptions{Policy: allowIf(t, test.condition)})
			for recipient, want := range map[*types.RecipientInfo]bool{tpm: test.tpm, enclave: test.enclave} {
				out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(arn), KeySpec: "AES_256", Recipient: recipient})
				if (err == nil) != want {
					t.Errorf("NitroTPM %t: %v", recipient == tpm, err)
				}
				if err == nil && (out.Plaintext != nil || out.CiphertextForRecipient == nil) {
					t.Error("the answer has a plaintext, or no envelope")
				}
				if got := last(t, server); (got.Attestation.Platform == attestation.PlatformNitroTPM) != (recipient == tpm) {
					t.Errorf("recorded %+v", got.Attestation)
				}
			}
		})
	}
}
