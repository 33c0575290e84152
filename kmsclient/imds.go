package kmsclient

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// metadataHost is the instance metadata service's (EC2 User Guide, "Access
// instance metadata").
const metadataHost = "169.254.169.254"

// newMetadataClient returns a client of the parent instance's metadata service.
// What it sets keeps the environment from moving or disabling it, and the
// parent from demanding version 1. The SDK gives an operation five seconds.
func newMetadataClient(dial channel.Dial) *imds.Client {
	client := channel.Client(&http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dial(ctx, network, metadataHost)
		},
		DisableKeepAlives: true, // a few requests an hour need none to be kept
	})
	client.Transport = metadataTransport{client.Transport}
	return imds.New(imds.Options{
		Endpoint:          "http://" + metadataHost,
		ClientEnableState: imds.ClientEnabled,
		EnableFallback:    aws.FalseTernary,
		HTTPClient:        client,
	})
}

// lastResponse is what became of an operation's last request. The SDK's errors
// do not tell: those about the session token hide what is within.
type lastResponse struct {
	status int
	err    error
}

type lastResponseKey struct{}

func withLastResponse(ctx context.Context) (context.Context, *lastResponse) {
	last := new(lastResponse)
	return context.WithValue(ctx, lastResponseKey{}, last), last
}

type metadataTransport struct{ http.RoundTripper }

func (t metadataTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(r)
	if last, ok := r.Context().Value(lastResponseKey{}).(*lastResponse); ok {
		*last = lastResponse{err: err}
		if err == nil {
			last.status = response.StatusCode
		}
	}
	return response, err
}

func metadataRegion(ctx context.Context, client *imds.Client) (string, error) {
	ctx, last := withLastResponse(ctx)
	out, err := client.GetRegion(ctx, &imds.GetRegionInput{})
	if err != nil {
		return "", last.explain(ctx, "region", err)
	}
	if !regionName.MatchString(out.Region) {
		return "", &Error{Reason: ReasonInstanceMetadata, Detail: fmt.Sprintf("the instance metadata service says that the region is %.100q, which is not a region's name", out.Region)}
	}
	return out.Region, nil
}

// instanceRole is the SDK's provider with errors that say what to do. The rest
// of its methods tell the SDK's cache that credentials that cannot be renewed
// are worth a try until KMS says no.
type instanceRole struct{ *ec2rolecreds.Provider }

func newInstanceRole(client *imds.Client) instanceRole {
	return instanceRole{ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })}
}

func (r instanceRole) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, last := withLastResponse(ctx)
	got, err := r.Provider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, last.explain(ctx, "credentials", err)
	}
	if !got.HasKeys() {
		return aws.Credentials{}, &Error{Reason: ReasonInstanceMetadata, Detail: "the instance metadata service responds with credentials that lack a key"}
	}
	return got, nil
}

func (l *lastResponse) explain(ctx context.Context, what string, err error) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	if l.err != nil || l.status == 0 {
		return &Error{Reason: ReasonChannel, Err: channel.Broken{Err: cmp.Or(l.err, err), Again: true}, // the SDK's five seconds are not the caller's
			Detail: "no response from the instance metadata service: check that the parent runs a proxy at the address that DialIMDS dials, which forwards to 169.254.169.254:80"}
	}
	detail := "the instance metadata service gives no " + what + ": "
	switch l.status {
	case http.StatusOK:
		detail += "its response is not of the kind expected"
	case http.StatusNotFound:
		detail += "the parent instance has none; for credentials, attach an IAM role to it, by an instance profile"
	case http.StatusForbidden:
		detail += "it is switched off; enable it in the parent instance's metadata options"
	default:
		detail += "check that the parent's proxy forwards to 169.254.169.254:80"
	}
	return &Error{Reason: ReasonInstanceMetadata, Detail: detail, Err: err}
}
