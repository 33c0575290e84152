package kmstest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest"
)

func inject(t testing.TB, server *kmstest.Server, fault kmstest.Fault) {
	t.Helper()
	if err := server.Inject(fault); err != nil {
		t.Fatal(err)
	}
}

// retrying is the SDK's own retryer, but for the pauses.
func retrying(o *kms.Options) {
	o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

func random(t testing.TB, server *kmstest.Server, options ...func(*kms.Options)) (*kms.GenerateRandomOutput, error) {
	return newClient(server, options...).GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
}

// Each failure as the SDK sees it. All but one are worth another attempt to it.
func TestFailures(t *testing.T) {
	for failure, want := range map[kmstest.Failure]struct {
		status        int // 0: no answer
		code, message string
	}{
		kmstest.Throttling:        {400, "ThrottlingException", "You have exceeded the rate at which you may call KMS"},
		kmstest.Internal:          {500, "KMSInternalException", "internal exception"},
		kmstest.KeyUnavailable:    {500, "KeyUnavailableException", "not available"},
		kmstest.DependencyTimeout: {503, "DependencyTimeoutException", "timed out"},
		kmstest.Unavailable:       {503, "ServiceUnavailable", "temporary failure"},
		kmstest.UnavailableHTML:   {503, "", ""},
		kmstest.CutBeforeHeader:   {},
		kmstest.CutInBody:         {},
	} {
		t.Run(string(failure), func(t *testing.T) {
			server := newServer(t, kmstest.Options{})
			inject(t, server, kmstest.Fault{Times: 3, Failure: failure})
			out, err := random(t, server)
			if out != nil || err == nil {
				t.Fatalf("got %v, %v", out, err)
			}
			recorded := last(t, server)
			if recorded.Fault != failure || recorded.ErrorCode != want.code || recorded.RequestID == "" {
				t.Errorf("recorded %+v", recorded)
			}
			if want.code != "" {
				wantCode(t, err, want.code, want.message)
			}
			var response *awshttp.ResponseError
			if errors.As(err, &response) && want.status != 0 {
				if response.HTTPStatusCode() != want.status || response.ServiceRequestID() != recorded.RequestID {
					t.Errorf("status %d, request ID %q, want %d, %q", response.HTTPStatusCode(), response.ServiceRequestID(), want.status, recorded.RequestID)
				}
			} else if want.status != 0 {
				t.Errorf("error is %v, want one with status %d", err, want.status)
			}
			if failure == kmstest.CutInBody {
				if _, err := random(t, server, retrying); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("error is %v, want an unexpected EOF", err)
				}
				return
			}
			// The SDK tries three times, and two faults are left.
			if _, err := random(t, server, retrying); err != nil {
				t.Errorf("with retries: %v", err)
			}
			if requests := server.Requests(); len(requests) != 4 || requests[2].Fault != failure || requests[3].Fault != "" {
				t.Errorf("recorded %+v", requests)
			}
		})
	}
}

func TestUnavailableHTMLIsNoJSON(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	inject(t, server, kmstest.Fault{Failure: kmstest.UnavailableHTML})
	var raw string
	client := newClient(server, func(o *kms.Options) {
		o.HTTPClient = doer(func(request *http.Request) (*http.Response, error) {
			response, err := server.Client().Do(request)
			if err == nil {
				body, _ := io.ReadAll(response.Body)
				raw = response.Header.Get("Content-Type") + " " + string(body)
				response.Body = io.NopCloser(strings.NewReader(string(body)))
			}
			return response, err
		})
	})
	_, _ = client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
	if !strings.HasPrefix(raw, "text/html <html>") {
		t.Errorf("answer is %q", raw)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(request *http.Request) (*http.Response, error) { return d(request) }

func TestFaultsAreForOneOperationInOrder(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	arn := createKey(t, server, kmstest.KeyOptions{})
	inject(t, server, kmstest.Fault{Operation: "DescribeKey", Failure: kmstest.Internal})
	inject(t, server, kmstest.Fault{Operation: "GenerateRandom", Times: 2, Failure: kmstest.Throttling})
	inject(t, server, kmstest.Fault{Failure: kmstest.Unavailable})
	for range 4 {
		_, _ = random(t, server)
	}
	for range 2 {
		_, _ = newClient(server).DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
	}
	var got []string
	for _, request := range server.Requests() {
		got = append(got, request.Operation+" "+string(request.Fault))
	}
	want := "GenerateRandom throttling, GenerateRandom throttling, GenerateRandom unavailable, GenerateRandom , DescribeKey internal, DescribeKey "
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestClearFaults(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	inject(t, server, kmstest.Fault{Times: 1000, Failure: kmstest.Throttling})
	_, err := random(t, server)
	wantCode(t, err, "ThrottlingException", "exceeded the rate")
	server.ClearFaults()
	if _, err := random(t, server); err != nil {
		t.Error(err)
	}
}

// What is not KMS's to throttle uses up no fault.
func TestUnsignedRequestsMeetNoFault(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	inject(t, server, kmstest.Fault{Failure: kmstest.Throttling})
	_, err := random(t, server, func(o *kms.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		})
	})
	wantCode(t, err, "UnrecognizedClientException", "token")
	_, err = random(t, server)
	wantCode(t, err, "ThrottlingException", "exceeded the rate")
}

// A lost answer is lost after the operation: the request is recorded as what
// it was.
func TestCutAnswersAreRecorded(t *testing.T) {
	server := newServer(t, kmstest.Options{WithoutIAMPermissions: true})
	inject(t, server, kmstest.Fault{Failure: kmstest.CutBeforeHeader})
	_, err := random(t, server)
	var apiErr smithy.APIError
	if err == nil || errors.As(err, &apiErr) {
		t.Errorf("error is %v", err)
	}
	if got := last(t, server); got.Fault != kmstest.CutBeforeHeader || got.ErrorCode != "AccessDeniedException" {
		t.Errorf("recorded %+v", got)
	}
}

func TestDelayAlone(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	inject(t, server, kmstest.Fault{Delay: time.Millisecond})
	if _, err := random(t, server); err != nil {
		t.Error(err)
	}
	if got := last(t, server); got.Fault != kmstest.Delayed || got.ErrorCode != "" {
		t.Errorf("recorded %+v", got)
	}
}

// readClock tells of every reading of the server's clock: the first is when a
// request has arrived, the second when its answer is under way.
func readClock() (clock func() time.Time, read chan struct{}) {
	read = make(chan struct{}, 16)
	return func() time.Time { read <- struct{}{}; return time.Now() }, read
}

func TestDelayEndsWithTheClient(t *testing.T) {
	clock, read := readClock()
	server := newServer(t, kmstest.Options{Clock: clock})
	inject(t, server, kmstest.Fault{Delay: time.Hour, Failure: kmstest.Throttling})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-read
		cancel()
	}()
	if _, err := newClient(server).GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
	<-read
	if got := last(t, server); got.Fault != kmstest.Throttling || !strings.Contains(got.Detail, "the client left") {
		t.Errorf("recorded %+v", got)
	}
}

func TestDelayEndsWithClose(t *testing.T) {
	clock, read := readClock()
	server := newServer(t, kmstest.Options{Clock: clock})
	inject(t, server, kmstest.Fault{Delay: time.Hour})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if _, err := random(t, server); err == nil {
			t.Error("answered")
		}
	})
	<-read
	server.Close()
	waiting.Wait()
}

func TestInjectRefuses(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	for name, test := range map[string]struct {
		fault  kmstest.Fault
		detail string
	}{
		"nothing":        {kmstest.Fault{}, "neither a Failure nor a Delay"},
		"no delay":       {kmstest.Fault{Failure: kmstest.Delayed}, "neither a Failure nor a Delay"},
		"failure":        {kmstest.Fault{Failure: "ThrottlingException"}, `Failure "ThrottlingException" is none of [cut-before-header cut-in-body`},
		"operation":      {kmstest.Fault{Operation: "decrypt", Failure: kmstest.Internal}, `Operation "decrypt" is none of [Decrypt`},
		"negative times": {kmstest.Fault{Times: -1, Failure: kmstest.Internal}, "Times -1"},
		"negative delay": {kmstest.Fault{Delay: -1, Failure: kmstest.Internal}, "Delay -1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			err := server.Inject(test.fault)
			var e *kmstest.Error
			if !errors.As(err, &e) || e.Reason != kmstest.ReasonInvalidOptions || !errors.Is(err, kmstest.ReasonInvalidOptions) || e.Op != "Inject" || !strings.Contains(e.Field+" "+e.Detail, test.detail) {
				t.Errorf("error is %v", err)
			}
		})
	}
	if _, err := random(t, server); err != nil {
		t.Errorf("a refused fault was injected: %v", err)
	}
}

func TestFaultsFromManyGoroutines(t *testing.T) {
	server := newServer(t, kmstest.Options{})
	const workers, each = 4, 5
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			if err := server.Inject(kmstest.Fault{Times: each, Failure: kmstest.Throttling}); err != nil {
				t.Error(err)
			}
			for range 2 * each {
				_, _ = random(t, server)
			}
		})
	}
	group.Wait()
	faults := 0
	for _, request := range server.Requests() {
		if request.Fault == kmstest.Throttling {
			faults++
		}
	}
	if faults != workers*each {
		t.Errorf("%d requests were throttled, want %d", faults, workers*each)
	}
}
