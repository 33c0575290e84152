package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const aliasOfA = "arn:aws:kms:eu-west-1:111122223333:alias/orders"

func TestResolveAlias(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer object
		want   Reason // "" is keyA
	}{
		{"the key", object{"Arn": keyA, "KeyId": "k"}, ""},
		{"a key of another account", object{"Arn": keyB}, ReasonResponseKey},
		{"a key of another region", object{"Arn": strings.Replace(keyA, "eu-west-1", "eu-west-2", 1)}, ReasonResponseKey},
		{"a key of another partition", object{"Arn": strings.Replace(keyA, "arn:aws:", "arn:aws-cn:", 1)}, ReasonResponseKey},
		{"the alias", object{"Arn": aliasOfA}, ReasonResponseKey},
		{"a bare key ID", object{"Arn": "1234abcd-12ab-34cd-56ef-1234567890ab"}, ReasonResponseKey},
		{"no ARN", object{"KeyId": "k"}, ReasonResponseKey},
		{"nothing", nil, ReasonResponseKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStub(t, func(r stubRequest) (int, any) {
				if test.answer == nil {
					return http.StatusOK, object{}
				}
				return http.StatusOK, object{"KeyMetadata": test.answer}
			})
			got, err := ResolveAlias(t.Context(), testConfig(), aliasOfA, ResolveOptions{Dial: s.dial, RootCAs: s.roots})
			if test.want != "" {
				wantError(t, err, "ResolveAlias", test.want)
			} else if err != nil {
				t.Error(err)
			}
			if (got == keyA) != (test.want == "") || got != "" && err != nil {
				t.Errorf("%q beside %v", got, err)
			}
			if seen := s.seen(); len(seen) != 1 || seen[0].op != "DescribeKey" || seen[0].text("KeyId") != aliasOfA || seen[0].host != host {
				t.Errorf("requests %v", seen)
			}
		})
	}
}

func TestResolveAliasRefuses(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) {
		return http.StatusBadRequest, object{"__type": "NotFoundException", "message": "Alias is not found."}
	})
	opts := ResolveOptions{Dial: s.dial, RootCAs: s.roots}
	elsewhere, nobody := testConfig(), testConfig()
	elsewhere.Region, nobody.Credentials = "us-east-1", nil
	for name, c := range map[string]struct {
		cfg    aws.Config
		alias  string
		opts   ResolveOptions
		reason Reason
	}{
		"a bare alias":       {testConfig(), "alias/orders", opts, ReasonInvalidOptions},
		"nothing":            {testConfig(), "", opts, ReasonInvalidOptions},
		"a key":              {testConfig(), keyA, opts, ReasonInvalidOptions},
		"an alias of S3's":   {testConfig(), "arn:aws:s3:eu-west-1:111122223333:alias/orders", opts, ReasonInvalidOptions},
		"no account":         {testConfig(), "arn:aws:kms:eu-west-1::alias/orders", opts, ReasonInvalidOptions},
		"no name":            {testConfig(), "arn:aws:kms:eu-west-1:111122223333:alias/", opts, ReasonInvalidOptions},
		"another region":     {elsewhere, aliasOfA, opts, ReasonInvalidOptions},
		"no credentials":     {nobody, aliasOfA, opts, ReasonInvalidOptions},
		"hosts that are not": {testConfig(), aliasOfA, ResolveOptions{Hosts: []string{"https://kms"}}, ReasonInvalidOptions},
	} {
		got, err := ResolveAlias(t.Context(), c.cfg, c.alias, c.opts)
		if e := wantError(t, err, "ResolveAlias", c.reason); got != "" || e == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if n := len(s.seen()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}

	cfg := testConfig()
	cfg.BaseEndpoint = aws.String("https://kms.example.com")
	got, err := ResolveAlias(t.Context(), cfg, aliasOfA, opts)
	if wantError(t, err, "DescribeKey", ReasonEndpoint); got != "" || len(s.seen()) != 0 {
		t.Errorf("%q, %d requests", got, len(s.seen()))
	}
	got, err = ResolveAlias(t.Context(), testConfig(), aliasOfA, opts)
	var notFound *types.NotFoundException
	if wantError(t, err, "ResolveAlias", ReasonKMS); got != "" || !errors.As(err, &notFound) {
		t.Errorf("%q, error %v", got, err)
	}

	opts.RootCAs = nil // Amazon's, which didn't certify the stub
	_, err = ResolveAlias(t.Context(), testConfig(), aliasOfA, opts)
	if e := wantError(t, err, "ResolveAlias", ReasonChannel); !strings.Contains(e.Detail, "is not KMS") {
		t.Error(err)
	}
}

func TestResolveAliasDenied(t *testing.T) {
	s := newStub(t, func(stubRequest) (int, any) {
		return http.StatusBadRequest, object{"__type": "AccessDeniedException", "Message": "no"}
	})
	_, err := ResolveAlias(t.Context(), testConfig(), aliasOfA, ResolveOptions{Dial: s.dial, RootCAs: s.roots})
	if e := wantError(t, err, "ResolveAlias", ReasonAccessDenied); !strings.Contains(e.Detail, "kms:DescribeKey") || e.KeyID != aliasOfA || e.PCRs != nil {
		t.Error(err)
	}
}

// An error that a credentials provider gives to several callers at once belongs to
// all of them.
func TestSharedErrorOfCredentials(t *testing.T) {
	cfg := testConfig()
	shared := &Error{Reason: ReasonInstanceMetadata, Detail: "no role"}
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, shared })
	s := newStub(t, honest(t))
	opts := Options{Dial: s.dial, RootCAs: s.roots, KeyIDs: []string{keyA}}
	client, err := New(t.Context(), cfg, &fakeAttester{}, opts)
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			if _, err := ResolveAlias(t.Context(), cfg, aliasOfA, ResolveOptions{Dial: s.dial, RootCAs: s.roots}); !errors.Is(err, shared) {
				t.Error(err)
			}
		})
		calls.Go(func() {
			if _, err := client.Decrypt(t.Context(), decryptInput); !errors.Is(err, shared) {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if shared.Op != "" || len(s.seen()) != 0 {
		t.Errorf("Op %q, %d requests", shared.Op, len(s.seen()))
	}
}
