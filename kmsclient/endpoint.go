package kmsclient

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// endpointGuard looks at the address of each request, of any operation, after
// the SDK has settled it and before anything is sent.
type endpointGuard struct {
	op      string
	anyHost bool // the caller brought the roots
}

func (endpointGuard) ID() string { return "KeyvouchEndpointGuard" }

func (g endpointGuard) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	request, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, &Error{Op: g.op, Reason: ReasonEndpoint, Detail: fmt.Sprintf("not an HTTP request: %T", in.Request)}
	}
	if detail := checkEndpoint(request.URL, g.anyHost); detail != "" {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, &Error{Op: g.op, Reason: ReasonEndpoint, Detail: detail}
	}
	return next.HandleFinalize(ctx, in)
}

func checkEndpoint(u *url.URL, anyHost bool) (fault string) {
	if u.Scheme != "https" {
		return fmt.Sprintf("the endpoint is %s://%s, must be https: without TLS the parent instance reads and writes the answers", u.Scheme, u.Host)
	}
	if !anyHost && !kmsHost.MatchString(strings.ToLower(u.Hostname())) {
		return fmt.Sprintf("%q isn't a name of KMS; the default roots certify every AWS customer's servers, so they are accepted for KMS's own names only: "+
			"unset the endpoint (BaseEndpoint, AWS_ENDPOINT_URL), or set Options.RootCAs to the roots that certify this host", u.Hostname())
	}
	return ""
}

// kmsHost matches the names of KMS's endpoints, public ones and those of VPC
// endpoints, in the partitions that the SDK knows. A name under amazonaws.com
// isn't enough: customers get such names too, as for an API gateway or a
// bucket. That is why the region must look like one.
var kmsHost = regexp.MustCompile(`^(vpce-[0-9a-z-]+\.)?kms(-fips)?\.[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}\.(vpce\.)?(` + strings.Join([]string{
	`amazonaws\.com`, `api\.aws`,
	`amazonaws\.com\.cn`, `api\.amazonwebservices\.com\.cn`,
	`amazonaws\.eu`, `api\.amazonwebservices\.eu`,
	`c2s\.ic\.gov`, `api\.aws\.ic\.gov`,
	`sc2s\.sgov\.gov`, `api\.aws\.scloud`,
	`cloud\.adc-e\.uk`, `api\.cloud-aws\.adc-e\.uk`,
	`csp\.hci\.ic\.gov`, `api\.aws\.hci\.ic\.gov`,
}, "|") + `)$`)
