package kmsclient

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// operation runs one of the five and returns what it gives. The output is nil
// if the operation's is.
type operation struct {
	op        string
	plaintext string // the field's name in KMS's JSON
	size      int
	input     any
	run       func(ctx context.Context, c *kms.Client, input any) (output any, plaintext, envelope []byte, err error)
}

// untyped turns a nil pointer into a nil interface.
func untyped[T any](p *T) any {
	if p == nil {
		return nil
	}
	return p
}

func operations() []operation {
	return []operation{
		{"Decrypt", "Plaintext", 20, &kms.DecryptInput{CiphertextBlob: []byte("blob"), KeyId: aws.String(keyA),
			EncryptionContext: map[string]string{"tenant": "7"}, GrantTokens: []string{"token"}},
			func(ctx context.Context, c *kms.Client, in any) (any, []byte, []byte, error) {
				out, err := c.Decrypt(ctx, in.(*kms.DecryptInput))
				if out == nil {
					return nil, nil, nil, err
				}
				return untyped(out), out.Plaintext, out.CiphertextForRecipient, err
			}},
		{"GenerateDataKey", "Plaintext", 32, &kms.GenerateDataKeyInput{KeyId: aws.String(keyA), KeySpec: types.DataKeySpecAes256,
			EncryptionContext: map[string]string{"tenant": "7"}},
			func(ctx context.Context, c *kms.Client, in any) (any, []byte, []byte, error) {
				out, err := c.GenerateDataKey(ctx, in.(*kms.GenerateDataKeyInput))
				if out == nil {
					return nil, nil, nil, err
				}
				return untyped(out), out.Plaintext, out.CiphertextForRecipient, err
			}},
		{"GenerateDataKeyPair", "PrivateKeyPlaintext", 1218, &kms.GenerateDataKeyPairInput{KeyId: aws.String(keyA), KeyPairSpec: types.DataKeyPairSpecRsa2048},
			func(ctx context.Context, c *kms.Client, in any) (any, []byte, []byte, error) {
				out, err := c.GenerateDataKeyPair(ctx, in.(*kms.GenerateDataKeyPairInput))
				if out == nil {
					return nil, nil, nil, err
				}
				return untyped(out), out.PrivateKeyPlaintext, out.CiphertextForRecipient, err
			}},
		{"GenerateRandom", "Plaintext", 100, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(100)},
			func(ctx context.Context, c *kms.Client, in any) (any, []byte, []byte, error) {
				out, err := c.GenerateRandom(ctx, in.(*kms.GenerateRandomInput))
				if out == nil {
					return nil, nil, nil, err
				}
				return untyped(out), out.Plaintext, out.CiphertextForRecipient, err
			}},
		{"DeriveSharedSecret", "SharedSecret", 48, &kms.DeriveSharedSecretInput{KeyId: aws.String(keyA), PublicKey: []byte("public"),
			KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh},
			func(ctx context.Context, c *kms.Client, in any) (any, []byte, []byte, error) {
				out, err := c.DeriveSharedSecret(ctx, in.(*kms.DeriveSharedSecretInput))
				if out == nil {
					return nil, nil, nil, err
				}
				return untyped(out), out.SharedSecret, out.CiphertextForRecipient, err
			}},
	}
}

// cloneInput copies an input deeply enough to compare with later.
func cloneInput(input any) any {
	v := reflect.New(reflect.TypeOf(input).Elem())
	v.Elem().Set(reflect.ValueOf(input).Elem())
	if in, ok := v.Interface().(*kms.DecryptInput); ok {
		in.CiphertextBlob = bytes.Clone(in.CiphertextBlob)
		in.EncryptionContext = maps.Clone(in.EncryptionContext)
	}
	return v.Interface()
}

// inputs can be compared but for a marker field that the SDK puts into all.
var ignoreMarker = cmpopts.IgnoreUnexported(kms.DecryptInput{}, kms.GenerateDataKeyInput{}, kms.GenerateDataKeyPairInput{},
	kms.GenerateRandomInput{}, kms.DeriveSharedSecretInput{}, types.RecipientInfo{})

// honestAnswer has what any of the five operations answers.
func honestAnswer(t testing.TB, r stubRequest, plaintext []byte) object {
	return object{"KeyId": keyA, "CiphertextBlob": []byte("sealed"), "PrivateKeyCiphertextBlob": []byte("sealed"),
		"PublicKey": []byte("public"), "CiphertextForRecipient": r.seal(t, plaintext)}
}

func TestOperations(t *testing.T) {
	for _, test := range operations() {
		t.Run(test.op, func(t *testing.T) {
			want := bytes.Repeat([]byte{0x5a}, test.size)
			s := newStub(t, func(r stubRequest) (int, any) {
				answer := honestAnswer(t, r, want)
				answer[test.plaintext] = nil
				return http.StatusOK, answer
			})
			client, attester := s.client(t)
			before := cloneInput(test.input)
			for call := range 2 {
				output, plaintext, envelope, err := test.run(t.Context(), client, test.input)
				if err != nil {
					t.Fatal(err)
				}
				if output == nil || !bytes.Equal(plaintext, want) {
					t.Errorf("plaintext of %d bytes, want %d", len(plaintext), len(want))
				}
				if envelope != nil {
					t.Error("the output still has its CiphertextForRecipient")
				}
				if diff := cmp.Diff(before, test.input, ignoreMarker); diff != "" {
					t.Errorf("the caller's input changed:\n%s", diff)
				}
				if got := attester.calls(); got != call+1 {
					t.Errorf("%d documents for %d calls", got, call+1)
				}
			}
			seen := s.seen()
			if len(seen) != 2 || seen[0].op != test.op || seen[0].host != host {
				t.Fatalf("requests %v", seen)
			}
			if bytes.Equal(seen[0].document(t), seen[1].document(t)) {
				t.Error("two calls with one document")
			}
		})
	}
}

// What a relay or a false KMS might answer. Whatever it is, there is an error
// of the right reason and no output at all.
func TestFalseAnswers(t *testing.T) {
	other := newSPKI(t)
	tests := []struct {
		name   string
		answer func(t *testing.T, test operation, r stubRequest, honest object) object
		want   Reason
		only   func(test operation) bool
	}{
		{"plaintext", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "CiphertextForRecipient")
			honest[test.plaintext] = make([]byte, test.size)
			return honest
		}, ReasonPlaintextInResponse, nil},
		{"plaintext beside an envelope", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest[test.plaintext] = make([]byte, test.size)
			return honest
		}, ReasonPlaintextInResponse, nil},
		{"neither", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "CiphertextForRecipient")
			return honest
		}, ReasonNoEnvelope, nil},
		{"nothing at all", func(*testing.T, operation, stubRequest, object) object { return object{} }, ReasonNoEnvelope, nil},
		{"empty envelope", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = []byte{}
			return honest
		}, ReasonNoEnvelope, nil},
		{"envelope for another key", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = seal(t, other, make([]byte, test.size))
			return honest
		}, ReasonEnvelope, nil},
		{"envelope that isn't one", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = []byte("envelope")
			return honest
		}, ReasonEnvelope, nil},
		{"empty plaintext in the envelope", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = r.seal(t, nil)
			return honest
		}, ReasonPlaintextSize, nil},
		{"a byte less", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = r.seal(t, make([]byte, test.size-1))
			return honest
		}, ReasonPlaintextSize, operation.sized},
		{"a byte more", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextForRecipient"] = r.seal(t, make([]byte, test.size+1))
			return honest
		}, ReasonPlaintextSize, operation.sized},
		{"another KMS key", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["KeyId"] = keyB
			return honest
		}, ReasonResponseKey, operation.keyed},
		{"no ciphertext", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "CiphertextBlob")
			return honest
		}, ReasonIncompleteResponse, func(o operation) bool { return o.op == "GenerateDataKey" }},
		{"empty ciphertext", func(t *testing.T, test operation, r stubRequest, honest object) object {
			honest["CiphertextBlob"] = ""
			return honest
		}, ReasonIncompleteResponse, func(o operation) bool { return o.op == "GenerateDataKey" }},
		{"no ciphertext of the private key", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "PrivateKeyCiphertextBlob")
			return honest
		}, ReasonIncompleteResponse, func(o operation) bool { return o.op == "GenerateDataKeyPair" }},
		{"no public key", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "PublicKey")
			return honest
		}, ReasonIncompleteResponse, func(o operation) bool { return o.op == "GenerateDataKeyPair" }},
		{"no KMS key", func(t *testing.T, test operation, r stubRequest, honest object) object {
			delete(honest, "KeyId")
			return honest
		}, ReasonResponseKey, operation.keyed},
	}
	for _, op := range operations() {
		for _, test := range tests {
			if test.only != nil && !test.only(op) {
				continue
			}
			t.Run(op.op+"/"+test.name, func(t *testing.T) {
				s := newStub(t, func(r stubRequest) (int, any) {
					return http.StatusOK, test.answer(t, op, r, honestAnswer(t, r, make([]byte, op.size)))
				})
				client, _ := s.client(t)
				output, _, _, err := op.run(t.Context(), client, op.input)
				wantError(t, err, op.op, test.want)
				if output != nil {
					t.Error("an output beside an error")
				}
			})
		}
	}
}

func (o operation) sized() bool { return o.op == "GenerateDataKey" || o.op == "GenerateRandom" }
func (o operation) keyed() bool { return o.op != "GenerateRandom" }

// KMS's reference says that Plaintext is "null or empty".
func TestEmptyPlaintextInAnswer(t *testing.T) {
	for _, op := range operations() {
		s := newStub(t, func(r stubRequest) (int, any) {
			answer := honestAnswer(t, r, make([]byte, op.size))
			answer[op.plaintext] = ""
			return http.StatusOK, answer
		})
		client, _ := s.client(t)
		if _, plaintext, _, err := op.run(t.Context(), client, op.input); err != nil || len(plaintext) != op.size {
			t.Errorf("%s: %d bytes, %v", op.op, len(plaintext), err)
		}
	}
}

func TestDataKeySizes(t *testing.T) {
	tests := []struct {
		name  string
		input kms.GenerateDataKeyInput
		size  int // that is accepted, 0 for none
	}{
		{"AES_256", kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes256}, 32},
		{"AES_128", kms.GenerateDataKeyInput{KeySpec: types.DataKeySpecAes128}, 16},
		{"64 bytes", kms.GenerateDataKeyInput{NumberOfBytes: aws.Int32(64)}, 64},
		{"no size", kms.GenerateDataKeyInput{}, 0},
		{"unknown specification", kms.GenerateDataKeyInput{KeySpec: "AES_512"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			size := 0
			s := newStub(t, func(r stubRequest) (int, any) {
				return http.StatusOK, honestAnswer(t, r, make([]byte, size))
			})
			client, _ := s.client(t)
			test.input.KeyId = aws.String(keyA)
			for _, size = range []int{15, 16, 17, 31, 32, 33, 63, 64, 65, 1024} {
				out, err := client.GenerateDataKey(t.Context(), &test.input)
				if size == test.size {
					if err != nil || len(out.Plaintext) != size {
						t.Errorf("%d bytes: %v", size, err)
					}
					continue
				}
				wantError(t, err, "GenerateDataKey", ReasonPlaintextSize)
				if out != nil {
					t.Errorf("%d bytes: an output beside an error", size)
				}
			}
		})
	}
}

func TestRecipientSetByCaller(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) { return fails("InternalFailure") })
	client, attester := s.client(t)
	recipient := &types.RecipientInfo{AttestationDocument: []byte("mine")}
	out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte("blob"), Recipient: recipient})
	wantError(t, err, "Decrypt", ReasonRecipientSet)
	if out != nil || len(s.seen()) != 0 || attester.calls() != 0 {
		t.Errorf("output %v, %d requests, %d documents", out, len(s.seen()), attester.calls())
	}
}

// Operations without a recipient go out as they are.
func TestOtherOperations(t *testing.T) {
	s := newStub(t, func(r stubRequest) (int, any) {
		return http.StatusOK, object{"KeyId": keyB, "CiphertextBlob": []byte("sealed"), "KeyMetadata": object{"KeyId": "k"}, "Plaintext": nil}
	})
	client, attester := s.client(t)
	if out, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyA), Plaintext: []byte("p")}); err != nil || string(out.CiphertextBlob) != "sealed" {
		t.Errorf("Encrypt: %v", err)
	}
	if _, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(keyB)}); err != nil {
		t.Errorf("DescribeKey: %v", err)
	}
	if _, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: aws.String(keyA)}); err != nil {
		t.Errorf("GenerateDataKeyWithoutPlaintext: %v", err)
	}
	for _, r := range s.seen() {
		if _, ok := r.body["Recipient"]; ok {
			t.Errorf("%s has a Recipient", r.op)
		}
	}
	if len(s.seen()) != 3 || attester.calls() != 0 {
		t.Errorf("%d requests, %d documents", len(s.seen()), attester.calls())
	}
}

// Every operation of the SDK that takes a recipient is one of ours: this fails
// when a new version of the SDK has a sixth.
func TestAllOperationsWithRecipient(t *testing.T) {
	client := reflect.TypeFor[*kms.Client]()
	found := 0
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() < 3 || m.Type.In(2).Kind() != reflect.Pointer || m.Type.In(2).Elem().Kind() != reflect.Struct {
			continue
		}
		input := m.Type.In(2)
		_, takes := input.Elem().FieldByName("Recipient")
		c := newCall(reflect.New(input.Elem()).Interface())
		if takes != (c != nil) || takes && c.op != m.Name {
			t.Errorf("%s takes a Recipient: %v, is attested: %v", m.Name, takes, c != nil)
		}
		if !takes {
			continue
		}
		found++
		output := m.Type.Out(0)
		if _, ok := newResponse(reflect.New(output.Elem()).Interface()); !ok {
			t.Errorf("%s's output isn't known", m.Name)
		}
	}
	if found != 5 {
		t.Errorf("%d operations take a Recipient", found)
	}
}
