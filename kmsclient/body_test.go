package kmsclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What a middleware makes of the serialized request never gets out: the document is made
// after it, and the request serialized again with the input that was checked.
func TestSerialisedRequest(t *testing.T) {
	theirs := []byte(`{"CiphertextBlob":"dGhlaXJz","KeyId":"theirs"}`)
	padded := func(n int) []byte {
		return append(bytes.Clone(theirs), bytes.Repeat([]byte(" "), max(0, n-len(theirs)))...)
	}
	type editor = func(*testing.T, context.Context, *smithyhttp.Request) context.Context
	request := func(edit func(r *smithyhttp.Request) error) editor {
		return func(t *testing.T, ctx context.Context, r *smithyhttp.Request) context.Context {
			if err := edit(r); err != nil {
				t.Error(err)
			}
			return ctx
		}
	}
	stream := func(to io.Reader) editor {
		return request(func(r *smithyhttp.Request) error {
			replaced, err := r.SetStream(to)
			if err == nil {
				*r = *replaced
			}
			return err
		})
	}
	s := newStub(t, honest(t))
	attester := &fakeAttester{}
	setup, err := newSetup(t.Context(), attester, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]editor{
		"looked at": func(t *testing.T, ctx context.Context, r *smithyhttp.Request) context.Context {
			body, err := io.ReadAll(r.GetStream())
			if err != nil || len(body) == 0 || bytes.Contains(body, []byte("AttestationDocument")) {
				t.Errorf("%v: %.100q", err, body)
			}
			if err := r.RewindStream(); err != nil {
				t.Error(err)
			}
			return ctx
		},
		"a header set": request(func(r *smithyhttp.Request) error { r.Header.Set("X-Theirs", "1"); return nil }),

		"body read to its end": request(func(r *smithyhttp.Request) error { _, err := io.Copy(io.Discard, r.GetStream()); return err }),
		"body replaced":        stream(bytes.NewReader(theirs)),
		"body dropped":         stream(nil),
		"body set anew": request(func(r *smithyhttp.Request) error {
			body := r.GetStream().(*bytes.Reader)
			body.Reset(padded(body.Len()))
			return nil
		}),
		"body set anew, and its hash": func(t *testing.T, ctx context.Context, r *smithyhttp.Request) context.Context {
			body := r.GetStream().(*bytes.Reader)
			other := padded(body.Len())
			body.Reset(other)
			sum := sha256.Sum256(other)
			return v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:]))
		},

		"hash": func(t *testing.T, ctx context.Context, r *smithyhttp.Request) context.Context {
			return v4.SetPayloadHash(ctx, "UNSIGNED-PAYLOAD")
		},
		"no length":      request(func(r *smithyhttp.Request) error { r.ContentLength = 0; return nil }),
		"unknown length": request(func(r *smithyhttp.Request) error { r.ContentLength = -1; return nil }),
		"method":         request(func(r *smithyhttp.Request) error { r.Method = http.MethodPut; return nil }),
		"target":         request(func(r *smithyhttp.Request) error { r.Header.Set("X-Amz-Target", "TrentService.ReEncrypt"); return nil }),
		"media type":     request(func(r *smithyhttp.Request) error { r.Header.Set("Content-Type", "text/plain"); return nil }),
	} {
		for _, place := range []string{"Build", "Finalize, first", "Finalize, before signing"} {
			t.Run(name+"/"+place, func(t *testing.T) {
				requests, documents := len(s.seen()), attester.calls()
				client := kms.NewFromConfig(testConfig(),
					kms.WithAPIOptions(editing(place, func(ctx context.Context, r *smithyhttp.Request) context.Context {
						if attester.calls() != documents {
							t.Error("the document was made before the middleware ran")
						}
						return edit(t, ctx, r)
					})),
					setup.apply, kms.WithAPIOptions(signed(t)))
				closeIdle(t, client)
				out, err := client.Decrypt(t.Context(), decryptInput)
				if err != nil || string(out.Plaintext) != "plaintext" {
					t.Fatal(err)
				}
				seen := s.seen()[requests:]
				if len(seen) != 1 || seen[0].text("KeyId") != keyA {
					t.Fatalf("sent %v", seen)
				}
				if d := seen[0].document(t); attester.calls()-documents != 1 || d[len(d)-1] != byte(attester.calls()) {
					t.Errorf("made documents %d to %d, and sent number %d; want one", documents+1, attester.calls(), d[len(d)-1])
				}
			})
		}
	}
}

// signed looks at what is going to be signed.
func signed(t *testing.T) func(*middleware.Stack) error {
	return editing("Finalize, before signing", func(ctx context.Context, r *smithyhttp.Request) context.Context {
		body, err := io.ReadAll(r.GetStream())
		if err != nil {
			t.Error(err)
		}
		if err := r.RewindStream(); err != nil {
			t.Error(err)
		}
		if sum := sha256.Sum256(body); v4.GetPayloadHash(ctx) != hex.EncodeToString(sum[:]) {
			t.Errorf("the hash is %.20q, not the body's", v4.GetPayloadHash(ctx))
		}
		if r.ContentLength != int64(len(body)) {
			t.Errorf("a length of %d, the body has %d bytes", r.ContentLength, len(body))
		}
		if r.Method != http.MethodPost || r.Header.Get("X-Amz-Target") != "TrentService.Decrypt" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-json") {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		return ctx
	})
}

// editing puts a middleware that edits the serialised request.
func editing(place string, edit func(context.Context, *smithyhttp.Request) context.Context) func(*middleware.Stack) error {
	build := middleware.BuildMiddlewareFunc("editing in Build",
		func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			return next.HandleBuild(edit(ctx, in.Request.(*smithyhttp.Request)), in)
		})
	return func(s *middleware.Stack) error {
		finalize := middleware.FinalizeMiddlewareFunc("editing, after "+strings.Join(s.Finalize.List(), ", "),
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				return next.HandleFinalize(edit(ctx, in.Request.(*smithyhttp.Request)), in)
			})
		switch place {
		case "Build":
			return s.Build.Add(build, middleware.After)
		case "Finalize, first":
			return s.Finalize.Add(finalize, middleware.Before)
		}
		return s.Finalize.Insert(finalize, "Signing", middleware.Before)
	}
}

// What a middleware makes of the input after it was checked is never sent, in no
// attempt.
func TestInputAfterSerializer(t *testing.T) {
	s := newStub(t, func(r stubRequest) (int, any) {
		return http.StatusInternalServerError, object{"__type": "KMSInternalException"}
	})
	client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots}, withRetries,
		kms.WithAPIOptions(func(s *middleware.Stack) error {
			return s.Serialize.Insert(middleware.SerializeMiddlewareFunc("theirs",
				func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
					key := keyB
					in.Parameters.(*kms.DecryptInput).KeyId = &key
					return next.HandleSerialize(ctx, in)
				}), serializerID, middleware.After)
		}))
	_, err := client.Decrypt(t.Context(), decryptInput)
	wantError(t, err, "Decrypt", ReasonKMS)
	if len(s.seen()) != 3 {
		t.Errorf("%d requests", len(s.seen()))
	}
	for i, r := range s.seen() {
		if r.text("KeyId") != keyA {
			t.Errorf("attempt %d names %s", i+1, r.text("KeyId"))
		}
	}
}

// Nor does writing through what the input points to, its key's name above all.
func TestWritesThroughTheInput(t *testing.T) {
	for name, keyID := range map[string]*string{"named": aws.String(keyA), "unnamed": nil} {
		t.Run(name, func(t *testing.T) {
			input := &kms.DecryptInput{
				CiphertextBlob: []byte("blob"), KeyId: keyID,
				EncryptionContext: map[string]string{"tenant": "7"}, GrantTokens: []string{"token"},
			}
			s := newStub(t, honest(t))
			client := newTestClient(t, testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots},
				kms.WithAPIOptions(func(s *middleware.Stack) error {
					return s.Serialize.Insert(middleware.SerializeMiddlewareFunc("theirs",
						func(ctx context.Context, in middleware.SerializeInput, next middleware.SerializeHandler) (middleware.SerializeOutput, middleware.Metadata, error) {
							// Both what this middleware is given and the caller's own.
							for _, d := range []*kms.DecryptInput{in.Parameters.(*kms.DecryptInput), input} {
								if d.KeyId != nil {
									*d.KeyId = keyB
								}
								d.CiphertextBlob[0] = 'X'
								d.EncryptionContext["tenant"] = "8"
								d.GrantTokens[0] = "theirs"
							}
							return next.HandleSerialize(ctx, in)
						}), serializerID, middleware.After)
				}))
			out, err := client.Decrypt(t.Context(), input)
			if err != nil || string(out.Plaintext) != "plaintext" {
				t.Fatal(err)
			}
			seen := s.seen()
			if len(seen) != 1 {
				t.Fatalf("sent %v", seen)
			}
			body := fmt.Sprint(seen[0].body)
			if seen[0].text("KeyId") != keyA || seen[0].text("CiphertextBlob") != "YmxvYg==" ||
				!strings.Contains(body, "tenant:7") || !strings.Contains(body, "[token]") {
				t.Errorf("sent %s", body)
			}
		})
	}
}

// A copy of an input shares nothing that can be written through, whatever fields a
// version of the SDK has.
func TestCopiesShareNothing(t *testing.T) {
	for _, in := range []any{&kms.DecryptInput{}, &kms.GenerateDataKeyInput{}, &kms.GenerateDataKeyPairInput{}, &kms.GenerateRandomInput{}, &kms.DeriveSharedSecretInput{}} {
		v := reflect.ValueOf(in).Elem()
		for i := range v.NumField() {
			f := v.Field(i)
			if !f.CanSet() || v.Type().Field(i).Name == "Recipient" { // which must be nil
				continue
			}
			switch f.Kind() {
			case reflect.Pointer:
				f.Set(reflect.New(f.Type().Elem()))
			case reflect.Slice:
				f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			case reflect.Map:
				f.Set(reflect.MakeMap(f.Type()))
			}
		}
		copied := reflect.ValueOf(newCall(in).input).Elem()
		for i := range v.NumField() {
			f, c := v.Field(i), copied.Field(i)
			switch f.Kind() {
			case reflect.Pointer, reflect.Slice, reflect.Map:
				if !f.IsNil() && f.Pointer() == c.Pointer() {
					t.Errorf("%T shares %s", in, v.Type().Field(i).Name)
				}
			}
		}
	}
}
