package kmsclient

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// guard puts into the stack what requests that are not attested need as well.
func guard(stack *middleware.Stack, hosts []string) error {
	credentials, ok := stack.Finalize.Get(identityID)
	if !ok {
		return unsupported(stack, identityID)
	}
	if _, err := stack.Finalize.Swap(identityID, identity{credentials}); err != nil {
		return err
	}
	return stack.Finalize.Insert(endpointGuard{op: stack.ID(), hosts: hosts}, "Signing", middleware.Before)
}

// endpointGuard checks the address of each request, of any operation, after the SDK has
// settled it and before anything is sent.
type endpointGuard struct {
	op    string
	hosts []string // Options.Hosts
}

func (endpointGuard) ID() string { return "KeyvouchEndpointGuard" }

func (g endpointGuard) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	e := &Error{Op: g.op, Reason: ReasonEndpoint}
	if request, ok := in.Request.(*smithyhttp.Request); !ok {
		e.Detail = fmt.Sprintf("not an HTTP request: %T", in.Request)
	} else {
		e.Field = fmt.Sprintf("%s://%.*s", request.URL.Scheme, maxQuotedID, request.URL.Host)
		e.Detail = checkEndpoint(request.URL, g.hosts)
	}
	if e.Detail != "" {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, e
	}
	return next.HandleFinalize(ctx, in)
}

func checkEndpoint(u *url.URL, hosts []string) (fault string) {
	if u.Scheme != "https" {
		return "the endpoint must be https: without TLS the parent instance reads and writes the responses"
	}
	if host := strings.ToLower(u.Hostname()); !kmsHost.MatchString(host) && !slices.Contains(hosts, host) {
		return "the host is not a name of KMS: whoever set it (BaseEndpoint, AWS_ENDPOINT_URL, a profile) may have a certificate for it and read and write the responses; " +
			"unset the endpoint, or name this host in Options.Hosts if it really leads to KMS"
	}
	return ""
}

// newHosts returns the names of Options.Hosts in lower case.
func newHosts(names []string) ([]string, error) {
	hosts := make([]string, 0, len(names))
	for _, name := range names {
		host := strings.ToLower(name)
		if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
			return nil, &Error{Reason: ReasonInvalidOptions, Field: "Options.Hosts",
				Detail: fmt.Sprintf("%s is not a host: it takes exact names or addresses, without scheme, port or wildcard", quoteID(name))}
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// hostName matches a DNS name in lower case (RFC 1123, section 2.1).
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// kmsHost matches the names of KMS's endpoints, public ones and those of VPC endpoints,
// in the partitions that the SDK knows. A name under amazonaws.com is not enough:
// customers get such names too, for an API gateway or a bucket. That is why the region
// must look like one.
var kmsHost = regexp.MustCompile(`^(vpce-[0-9a-z-]+\.)?kms(-fips)?\.[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}\.(vpce\.)?(` + strings.Join([]string{
	`amazonaws\.com`, `api\.aws`,
	`amazonaws\.com\.cn`, `api\.amazonwebservices\.com\.cn`,
	`amazonaws\.eu`, `api\.amazonwebservices\.eu`,
	`c2s\.ic\.gov`, `api\.aws\.ic\.gov`,
	`sc2s\.sgov\.gov`, `api\.aws\.scloud`,
	`cloud\.adc-e\.uk`, `api\.cloud-aws\.adc-e\.uk`,
	`csp\.hci\.ic\.gov`, `api\.aws\.hci\.ic\.gov`,
}, "|") + `)$`)
