package kmsclient_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// denied asks for a data key that the enclave doesn't get.
func denied(t *testing.T, w *world, client *kms.Client) *kmsclient.Error {
	t.Helper()
	out, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(w.key), KeySpec: types.DataKeySpecAes256})
	var e *kmsclient.Error
	if out != nil || !errors.As(err, &e) {
		t.Fatalf("output %v, error %v", out, err)
	}
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != e.Code || api.ErrorMessage() != e.Message {
		t.Errorf("the SDK's error is %v, code %q and message %q", api, e.Code, e.Message)
	}
	if text := err.Error(); strings.ContainsFunc(text, unicode.IsControl) || len(text) > 1500 {
		t.Errorf("not a readable line: %q", text)
	}
	requests := w.kms.Requests()
	if last := requests[len(requests)-1]; e.RequestID == "" || e.RequestID != last.RequestID || e.Code != last.ErrorCode {
		t.Errorf("request %q with code %q, KMS has %+v", e.RequestID, e.Code, last)
	}
	return e
}

func TestDeniedOtherImage(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	other := []byte("another image")
	role := "arn:aws:iam::111122223333:role/parent"
	session := w.enclave(t, nsmtest.Options{Image: other, InstanceID: "i-0123456789abcdef0", RoleARN: role})
	e := denied(t, w, w.client(t, session, kmsclient.Options{}))
	if e.Reason != kmsclient.ReasonAccessDenied || e.Code != "AccessDeniedException" || !strings.Contains(e.Message, "kms:GenerateDataKey") {
		t.Errorf("error %v", e)
	}
	pcr0, pcr1, pcr2 := nsmtest.Measure(other)
	want := map[int]attestation.PCR{0: pcr0, 1: pcr1, 2: pcr2, 3: attestation.RolePCR(role), 4: attestation.InstancePCR("i-0123456789abcdef0"), 8: {}}
	for i, value := range want {
		if got, ok := e.PCRs[i]; !ok || got != value {
			t.Errorf("PCR%d is %v, want %v", i, got, value)
		}
		short := fmt.Sprintf("PCR%d %.12s…", i, value)
		if got := strings.Contains(e.Error(), short); got == value.IsZero() {
			t.Errorf("%q in the text: %v", short, got)
		}
	}
	if len(e.PCRs) != len(want) || e.Debug || e.ClockSkew != 0 {
		t.Errorf("%d PCRs, debug mode %v, skew %v", len(e.PCRs), e.Debug, e.ClockSkew)
	}
	for _, no := range []string{"debug", "clock", pcr0String(pcr0)} {
		if strings.Contains(e.Error(), no) {
			t.Errorf("%q in %v", no, e)
		}
	}
}

func pcr0String(pcr [48]byte) string { return attestation.PCR(pcr).String() }

func TestDeniedDebugMode(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	e := denied(t, w, w.client(t, w.enclave(t, nsmtest.Options{Image: image, Debug: true}), kmsclient.Options{}))
	if e.Reason != kmsclient.ReasonAccessDenied || !e.Debug || !strings.HasPrefix(e.Detail, "this enclave runs in debug mode") {
		t.Errorf("error %v", e)
	}
	if strings.Contains(e.Detail, "ImageSha384") {
		t.Errorf("the general hint is there too: %v", e)
	}
	for i := range 3 {
		if value, ok := e.PCRs[i]; !ok || !value.IsZero() {
			t.Errorf("PCR%d is %v", i, value)
		}
	}
}

// The clock of KMS is moved instead of the enclave's.
func TestDeniedSkewedClock(t *testing.T) {
	for _, test := range []struct {
		kms, skew time.Duration
		code      string
		text      string
	}{
		{2 * time.Minute, -2 * time.Minute, "AccessDeniedException", "2m0s behind KMS's"},
		{-30 * time.Second, 30 * time.Second, "AccessDeniedException", "30s ahead of KMS's"},
		{time.Second, 0, "AccessDeniedException", ""},
		{time.Hour, -time.Hour, "InvalidSignatureException", "1h0m0s behind KMS's"},
	} {
		t.Run(test.kms.String(), func(t *testing.T) {
			pki, err := nsmtest.NewPKI(nsmtest.PKIOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w := &world{pki: pki}
			w.kms, err = kmstest.NewServer(kmstest.Options{AttestationRoot: pki.Root(), WithoutIAMPermissions: true,
				Clock: func() time.Time { return time.Now().Add(test.kms) }})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(w.kms.Close)
			pcr0, _, _ := nsmtest.Measure(image)
			if w.key, err = w.kms.CreateKey(kmstest.KeyOptions{Policy: kmstest.AllowAttested(kmstest.PCREquals(0, pcr0))}); err != nil {
				t.Fatal(err)
			}
			session := w.enclave(t, nsmtest.Options{Image: []byte("another image")})
			// With a second attempt the SDK would mend the signature's date.
			e := denied(t, w, w.client(t, session, kmsclient.Options{}, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} }))
			if off := e.ClockSkew - test.skew; off.Abs() > 3*time.Second || e.Code != test.code || e.PCRs == nil {
				t.Errorf("skew %v, want about %v: %v", e.ClockSkew, test.skew, e)
			}
			if test.skew == 0 && strings.Contains(e.Error(), "clock") {
				t.Errorf("error %v", e)
			}
			if near := []string{test.text, strings.Replace(test.text, "0s ", "1s ", 1), strings.NewReplacer("2m0s", "1m59s", "30s", "29s", "1h0m0s", "59m59s").Replace(test.text)}; !slices.ContainsFunc(near,
				func(text string) bool { return strings.Contains(e.Detail, text) }) {
				t.Errorf("no %q: %v", test.text, e)
			}
		})
	}
}

// Options.Clock is the enclave's side of the comparison.
func TestSkewOfTheGivenClock(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	client := w.client(t, w.enclave(t, nsmtest.Options{}), kmsclient.Options{Clock: func() time.Time { return time.Now().Add(24 * time.Hour) }})
	if e := denied(t, w, client); (e.ClockSkew-24*time.Hour).Abs() > 3*time.Second || !strings.Contains(e.Detail, "ahead") {
		t.Errorf("skew %v: %v", e.ClockSkew, e)
	}
}

// A document that KMS can't verify is shown as well; one that is none can't.
func TestInvalidDocument(t *testing.T) {
	w := newWorld(t, kmstest.EnvelopeChunked)
	device, err := nsmtest.New(nsmtest.Options{Image: image}) // with a root of its own
	if err != nil {
		t.Fatal(err)
	}
	session := nsm.NewSession(device)
	defer session.Close()
	pcr0, _, _ := nsmtest.Measure(image)
	e := denied(t, w, w.client(t, session, kmsclient.Options{}))
	if e.Code != "ValidationException" || e.PCRs[0] != pcr0 || !strings.Contains(e.Detail, fmt.Sprintf("PCR0 %.12s…", attestation.PCR(pcr0))) {
		t.Errorf("error %v", e)
	}
	e = denied(t, w, w.client(t, garbage{}, kmsclient.Options{}))
	if e.Code != "ValidationException" || e.PCRs != nil || e.Debug || !strings.Contains(e.Detail, "cannot be read") {
		t.Errorf("error %v", e)
	}
}

type garbage struct{}

func (garbage) Attest(context.Context, nsm.AttestationRequest) ([]byte, error) {
	return []byte("not a document"), nil
}
