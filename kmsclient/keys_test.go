package kmsclient

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func TestKeyIDs(t *testing.T) {
	for _, id := range []string{
		keyA, keyB,
		"arn:aws-cn:kms:cn-north-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
	} {
		if _, err := parsePin(id); err != nil {
			t.Error(err)
		}
	}
	for id, detail := range map[string]string{
		"":             "not an ARN",
		"alias/orders": "alias",
		"arn:aws:kms:eu-west-1:111122223333:alias/orders": "alias",
		"1234abcd-12ab-34cd-56ef-1234567890ab":            "bare key ID",
		"arn:aws:s3:eu-west-1:111122223333:key/k":         "not of kms",
		"arn:aws:kms::111122223333:key/k":                 "region",
		"arn::kms:eu-west-1:111122223333:key/k":           "partition",
		"arn:aws:kms:eu-west-1::key/k":                    "12 digits",
		"arn:aws:kms:eu-west-1:11112222333x:key/k":        "12 digits",
		"arn:aws:kms:eu-west-1:111122223333:key/":         "key ID",
		"arn:aws:kms:eu-west-1:111122223333:key/*":        "key ID",
		"arn:aws:kms:eu-west-1:111122223333:key/a/b":      "key ID",
		"arn:aws:kms:eu-west-1:111122223333:key/k ":       "key ID",
		"arn:aws:kms:eu-west-1:111122223333:grant/k":      "not of a key|isn't of a key",
		"*": "not an ARN",
	} {
		_, err := New(t.Context(), testConfig(), &fakeAttester{}, Options{KeyIDs: []string{keyA, id}})
		e := wantError(t, err, "New", ReasonInvalidOptions)
		ok := false
		for _, d := range strings.Split(detail, "|") {
			ok = ok || strings.Contains(e.Detail, d)
		}
		if !ok || e.KeyID != id {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestPinning(t *testing.T) {
	const bare = "1234abcd-12ab-34cd-56ef-1234567890ab" // of keyA
	alias := "arn:aws:kms:eu-west-1:111122223333:alias/orders"
	one, two := Options{KeyIDs: []string{keyA, keyA}}, Options{KeyIDs: []string{keyA, keyB}}
	unsafe := Options{UnsafeAnyKey: true}
	tests := []struct {
		name    string
		opts    Options
		request string // "" for none
		sent    string // "" for none
		answer  string
		want    Reason // "" for success
	}{
		{"one pinned, none named", one, "", keyA, keyA, ""},
		{"one pinned, none named, another answers", one, "", keyA, keyB, ReasonResponseKey},
		{"one pinned, named", one, keyA, keyA, keyA, ""},
		{"one pinned, another named", one, keyB, "", "", ReasonKeyNotPinned},
		{"one pinned, another's bare ID named", one, "mrk-0987dcba09fe87dc65ba43fe21dc0987", "", "", ReasonKeyNotPinned},
		{"one pinned, bare ID named", one, bare, bare, keyA, ""},
		{"one pinned, bare ID named, another account's key answers", one, bare, bare, strings.Replace(keyA, "111122223333", "444455556666", 1), ReasonResponseKey},
		{"one pinned, alias named", one, "alias/orders", "alias/orders", keyA, ""},
		{"one pinned, alias ARN named", one, alias, alias, keyA, ""},
		{"one pinned, alias leads elsewhere", one, alias, alias, keyB, ReasonResponseKey},
		{"one pinned, no key answers", one, "", keyA, "", ReasonResponseKey},
		{"two pinned, none named", two, "", "", keyB, ""},
		{"two pinned, one named, the other answers", two, keyA, keyA, keyB, ReasonResponseKey},
		{"two pinned, a third answers", two, "", "", keyA + "0", ReasonResponseKey},
		{"any, none named", unsafe, "", "", keyB, ""},
		{"any, one named", unsafe, keyA, keyA, keyA, ""},
		{"any, one named, another answers", unsafe, keyA, keyA, keyB, ReasonResponseKey},
		{"any, no key answers", unsafe, "", "", "", ReasonResponseKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStub(t, func(r stubRequest) (int, any) {
				if got := r.text("KeyId"); got != test.sent {
					t.Errorf("KeyId %q was sent, want %q", got, test.sent)
				}
				return http.StatusOK, object{"KeyId": test.answer, "CiphertextForRecipient": r.seal(t, []byte("plaintext"))}
			})
			client, _ := s.client(t, func(o *Options) { o.KeyIDs, o.UnsafeAnyKey = test.opts.KeyIDs, test.opts.UnsafeAnyKey })
			input := &kms.DecryptInput{CiphertextBlob: []byte("blob")}
			if test.request != "" {
				input.KeyId = aws.String(test.request)
			}
			out, err := client.Decrypt(t.Context(), input)
			if test.request == "" && input.KeyId != nil {
				t.Error("the caller's input got a KeyId")
			}
			if test.want == "" {
				if err != nil || string(out.Plaintext) != "plaintext" {
					t.Errorf("error %v", err)
				}
				return
			}
			wantError(t, err, "Decrypt", test.want)
			if out != nil {
				t.Error("an output beside an error")
			}
			if n := len(s.seen()); (n == 0) != (test.want == ReasonKeyNotPinned) {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}
