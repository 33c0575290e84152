package kmsclient_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

// What KMS can't do at the moment is tried again, each time with a document of
// its own, and told with KMS's code if it stays so.
func TestKMSFails(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	for _, test := range []struct {
		failure kmstest.Failure
		reason  kmsclient.Reason
		status  int
		code    string
		hint    string
		cause   any // for errors.As, if the SDK has a type for it
	}{
		{kmstest.Throttling, kmsclient.ReasonKMS, http.StatusBadRequest, "ThrottlingException", "quota", nil},
		{kmstest.Internal, kmsclient.ReasonKMS, http.StatusInternalServerError, "KMSInternalException", "", new(*types.KMSInternalException)},
		{kmstest.KeyUnavailable, kmsclient.ReasonKMS, http.StatusInternalServerError, "KeyUnavailableException", "", new(*types.KeyUnavailableException)},
		{kmstest.DependencyTimeout, kmsclient.ReasonKMS, http.StatusServiceUnavailable, "DependencyTimeoutException", "", new(*types.DependencyTimeoutException)},
		{kmstest.Unavailable, kmsclient.ReasonKMS, http.StatusServiceUnavailable, "ServiceUnavailable", "", nil},
		{kmstest.UnavailableHTML, kmsclient.ReasonMalformedResponse, http.StatusServiceUnavailable, "", "status 503", nil},
		{kmstest.CutBeforeHeader, kmsclient.ReasonChannel, 0, "", "before the response", nil},
		{kmstest.CutInBody, kmsclient.ReasonChannel, 0, "", "in the middle of the response", nil},
	} {
		t.Run(string(test.failure), func(t *testing.T) {
			for failing := 1; failing <= 3; failing++ {
				if err := r.kms.Inject(kmstest.Fault{Operation: "Decrypt", Times: failing, Failure: test.failure}); err != nil {
					t.Fatal(err)
				}
				requests, documents := len(r.faulty(test.failure)), r.count()
				out, err := r.client.Decrypt(t.Context(), input, attempts(3))
				if failing < 3 {
					wantSecret(t, 1, out, err)
				} else {
					e := wantFault(t, out, err, test.reason, test.hint)
					var api smithy.APIError
					if test.code != "" && (e.Code != test.code || e.RequestID == "" || !errors.As(err, &api) || api.ErrorCode() != test.code) {
						t.Errorf("code %q, request %q, error %v", e.Code, e.RequestID, err)
					}
					if test.cause != nil && !errors.As(err, test.cause) {
						t.Errorf("no %T: %v", test.cause, err)
					}
					var response *awshttp.ResponseError
					if test.status != 0 && (!errors.As(err, &response) || response.HTTPStatusCode() != test.status) {
						t.Errorf("not with status %d: %v", test.status, err)
					}
				}
				if n := len(r.faulty(test.failure)) - requests; n != failing {
					t.Errorf("%d requests had the fault, want %d", n, failing)
				}
				if n := r.count() - documents; n != min(failing+1, 3) {
					t.Errorf("%d documents for %d attempts", n, min(failing+1, 3))
				}
			}
		})
	}
}

func (r *rig) count() int {
	n, _ := r.documents.made()
	return n
}

// faulty returns the requests that had the fault.
func (r *rig) faulty(failure kmstest.Failure) (requests []kmstest.Request) {
	for _, request := range r.kms.Requests() {
		if request.Fault == failure {
			requests = append(requests, request)
		}
	}
	return requests
}

// A context that ends while KMS throttles tells both.
func TestThrottledToTheEnd(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	if err := r.kms.Inject(kmstest.Fault{Failure: kmstest.Throttling, Times: 5}); err != nil {
		t.Fatal(err)
	}
	ctx, pauses := newDeadline(t), 0
	out, err := r.client.Decrypt(ctx, input, attemptsWith(100, func() time.Duration {
		if pauses++; pauses < 5 {
			return 0
		}
		ctx.pass()
		return time.Hour
	}))
	e := wantFault(t, out, err, kmsclient.ReasonCanceled, "before the next attempt")
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "ThrottlingException" || !strings.Contains(e.Error(), "attempt 5") {
		t.Errorf("error %v", err)
	}
	if n := len(r.faulty(kmstest.Throttling)); n != 5 || r.count() != 5 {
		t.Errorf("%d throttled requests with %d documents", n, r.count())
	}
}

// A KMS that hangs is left alone when the context ends, and what it hangs with
// is in nobody's way.
func TestKMSHangs(t *testing.T) {
	r := newRig(t, kmsclient.Options{})
	input := &kms.DecryptInput{CiphertextBlob: r.seal(t, 1)}
	if err := r.kms.Inject(kmstest.Fault{Operation: "Decrypt", Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	ctx := newDeadline(t)
	arrival := ctx.pass
	r.arrival.Store(&arrival)
	out, err := r.client.Decrypt(ctx, input, attempts(3))
	wantFault(t, out, err, kmsclient.ReasonCanceled, "in attempt 1")
	for range 3 {
		key, err := r.client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String(r.key), NumberOfBytes: aws.Int32(17)}, attempts(1))
		if err != nil || len(key.Plaintext) != 17 {
			t.Errorf("error %v", err)
		}
	}
	r.kms.Close() // waits for the request that hangs
	if n := len(r.faulty(kmstest.Delayed)); n != 1 || r.count() != 4 {
		t.Errorf("%d requests hung, %d documents", n, r.count())
	}
}
