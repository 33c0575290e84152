package kmsclient

import (
	"context"
	"maps"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"
)

// replacing are the ways to put a middleware that replaces an input.
func replacing(edit func(in *kms.DecryptInput)) map[string]func(*middleware.Stack) error {
	replace := func(parameters any) any {
		if in, ok := parameters.(*kms.DecryptInput); ok {
			replaced := *in
			edit(&replaced)
			return &replaced
		}
		return parameters
	}
	initialize := middleware.InitializeMiddlewareFunc("theirs",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			in.Parameters = replace(in.Parameters)
			return next.HandleInitialize(ctx, in)
		})
	serialize := middleware.SerializeMiddlewareFunc("theirs",
		func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
			in.Parameters = replace(in.Parameters)
			return next.HandleSerialize(ctx, in)
		})
	return map[string]func(*middleware.Stack) error{
		"Initialize, before": func(s *middleware.Stack) error { return s.Initialize.Add(initialize, middleware.Before) },
		"Initialize, after":  func(s *middleware.Stack) error { return s.Initialize.Add(initialize, middleware.After) },
		"Serialize": func(s *middleware.Stack) error {
			return s.Serialize.Insert(serialize, "OperationSerializer", middleware.Before)
		},
	}
}

// What a middleware of the caller's makes of an input is what is sent, attested
// and checked, wherever it stands.
func TestMiddlewareReplacesInput(t *testing.T) {
	tests := []struct {
		name string
		edit func(in *kms.DecryptInput)
		want Reason // "" for success
	}{
		{"encryption context", func(in *kms.DecryptInput) { in.EncryptionContext = map[string]string{"tenant": "7"} }, ""},
		{"pinned key", func(in *kms.DecryptInput) {
			in.KeyId, in.EncryptionContext = aws.String(keyA), map[string]string{"tenant": "7"}
		}, ""},
		{"another key", func(in *kms.DecryptInput) { in.KeyId = aws.String(keyB) }, ReasonKeyNotPinned},
		{"recipient", func(in *kms.DecryptInput) {
			in.Recipient = &types.RecipientInfo{AttestationDocument: []byte("theirs")}
		}, ReasonRecipientSet},
	}
	for _, test := range tests {
		for place, add := range replacing(test.edit) {
			for _, when := range []string{"every call", "this call"} {
				t.Run(test.name+"/"+place+"/"+when, func(t *testing.T) {
					s := newStub(t, func(r stubRequest) (int, any) {
						return http.StatusOK, object{"KeyId": keyA, "CiphertextForRecipient": r.seal(t, []byte("plaintext"))}
					})
					attester := &fakeAttester{}
					var forAll, forOne []func(*kms.Options)
					option := kms.WithAPIOptions(add)
					if when == "every call" {
						forAll = append(forAll, option)
					} else {
						forOne = append(forOne, option)
					}
					client := newTestClient(t, testConfig(), attester, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}, forAll...)
					out, err := client.Decrypt(t.Context(), decryptInput, forOne...)
					if test.want != "" {
						wantError(t, err, "Decrypt", test.want)
						if out != nil || len(s.seen()) != 0 || attester.calls() != 0 {
							t.Errorf("output %v, %d requests, %d documents", out, len(s.seen()), attester.calls())
						}
						return
					}
					if err != nil || string(out.Plaintext) != "plaintext" {
						t.Fatal(err)
					}
					sent, _ := s.seen()[0].body["EncryptionContext"].(map[string]any)
					if !maps.Equal(sent, map[string]any{"tenant": "7"}) || s.seen()[0].text("KeyId") != keyA {
						t.Errorf("sent %v", s.seen()[0].body)
					}
				})
			}
		}
	}
}

// A middleware that answers by itself can't pass a plaintext for an attested
// one.
func TestMiddlewareAnswers(t *testing.T) {
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}}, kms.WithAPIOptions(func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("theirs",
			func(context.Context, middleware.InitializeInput, middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				return middleware.InitializeOutput{Result: &kms.DecryptOutput{KeyId: aws.String(keyA), Plaintext: []byte("cached")}}, middleware.Metadata{}, nil
			}), middleware.After)
	}))
	out, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonNoEnvelope)
	if out != nil {
		t.Error("an output beside an error")
	}
}
