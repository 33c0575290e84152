package kmsclient

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// What a middleware makes of the serialised body never gets out, and what makes it
// old doesn't send an old document: the request is attested anew.
func TestSerialisedBody(t *testing.T) {
	var passed time.Duration // on the client's clock
	for name, test := range map[string]struct {
		edit      func(t *testing.T, r *smithyhttp.Request)
		documents int
	}{
		"looked at": {func(t *testing.T, r *smithyhttp.Request) {
			body, err := io.ReadAll(r.GetStream())
			if err != nil || !strings.Contains(string(body), "AttestationDocument") {
				t.Errorf("%v: %.100q", err, body)
			}
			if err := r.RewindStream(); err != nil {
				t.Error(err)
			}
		}, 1},
		"read to its end": {func(t *testing.T, r *smithyhttp.Request) {
			if _, err := io.Copy(io.Discard, r.GetStream()); err != nil {
				t.Error(err)
			}
		}, 2},
		"replaced": {func(t *testing.T, r *smithyhttp.Request) {
			replaced, err := r.SetStream(strings.NewReader(`{"CiphertextBlob":"dGhlaXJz","KeyId":"theirs"}`))
			if err != nil {
				t.Error(err)
				return
			}
			*r = *replaced
		}, 2},
		"dropped": {func(t *testing.T, r *smithyhttp.Request) {
			replaced, err := r.SetStream(nil)
			if err != nil {
				t.Error(err)
				return
			}
			*r = *replaced
		}, 2},
		"on time":      {func(*testing.T, *smithyhttp.Request) { passed += maxDocumentAge }, 1},
		"held up":      {func(*testing.T, *smithyhttp.Request) { passed += maxDocumentAge + 1 }, 2},
		"set back":     {func(*testing.T, *smithyhttp.Request) { passed -= time.Hour }, 2},
		"a header set": {func(_ *testing.T, r *smithyhttp.Request) { r.Header.Set("X-Theirs", "1") }, 1},
	} {
		for _, place := range []string{"Build", "Finalize, first", "Finalize, before signing"} {
			t.Run(name+"/"+place, func(t *testing.T) {
				s := newStub(t, honest(t))
				attester := &fakeAttester{}
				began := time.Now()
				opts := Options{KeyIDs: []string{keyA}, Dial: s.dial, RootCAs: s.roots, Clock: func() time.Time { return began.Add(passed) }}
				client := newTestClient(t, testConfig(), attester, opts, kms.WithAPIOptions(editing(place, func(r *smithyhttp.Request) { test.edit(t, r) })))
				out, err := client.Decrypt(t.Context(), decryptInput)
				if err != nil || string(out.Plaintext) != "plaintext" {
					t.Fatal(err)
				}
				seen := s.seen()
				if len(seen) != 1 || seen[0].text("KeyId") != keyA {
					t.Fatalf("sent %v", seen)
				}
				if d := seen[0].document(t); attester.calls() != test.documents || d[len(d)-1] != byte(test.documents) {
					t.Errorf("made %d documents and sent number %d, want %d", attester.calls(), d[len(d)-1], test.documents)
				}
			})
		}
	}
}

// editing puts a middleware that edits the serialised request.
func editing(place string, edit func(*smithyhttp.Request)) func(*middleware.Stack) error {
	build := middleware.BuildMiddlewareFunc("theirs",
		func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
			edit(in.Request.(*smithyhttp.Request))
			return next.HandleBuild(ctx, in)
		})
	finalize := middleware.FinalizeMiddlewareFunc("theirs",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			edit(in.Request.(*smithyhttp.Request))
			return next.HandleFinalize(ctx, in)
		})
	return func(s *middleware.Stack) error {
		switch place {
		case "Build":
			return s.Build.Add(build, middleware.After)
		case "Finalize, first":
			return s.Finalize.Add(finalize, middleware.Before)
		}
		return s.Finalize.Insert(finalize, "Signing", middleware.Before) // the client's own comes after it
	}
}
