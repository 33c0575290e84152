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

// endpointGuard looks at the address of each request, of any operation, after
// the SDK has settled it and before anything is sent.
type endpointGuard struct {
	op    string
	hosts []string // Options.Hosts
}

func (endpointGuard) ID() string { return "KeyvouchEndpointGuard" }

func (g endpointGuard) HandleFinalize(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	request, ok := in.Request.(*smithyhttp.Request)
	if !ok {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, &Error{Op: g.op, Reason: ReasonEndpoint, Detail: fmt.Sprintf("not an HTTP request: %T", in.Request)}
	}
	if detail := checkEndpoint(request.URL, g.hosts); detail != "" {
		return middleware.FinalizeOutput{}, middleware.Metadata{}, &Error{Op: g.op, Reason: ReasonEndpoint, Detail: detail}
	}
	return next.HandleFinalize(ctx, in)
}

func checkEndpoint(u *url.URL, hosts []string) (fault string) {
	if u.Scheme != "https" {
		return fmt.Sprintf("the endpoint is %s://%s, must be https: without TLS the parent instance reads and writes the answers", u.Scheme, u.Host)
	}
	if host := strings.ToLower(u.Hostname()); !kmsHost.MatchString(host) && !slices.Contains(hosts, host) {
		return fmt.Sprintf("%q isn't a name of KMS: whoever set it (BaseEndpoint, AWS_ENDPOINT_URL, a profile) may have a certificate for it and read and write the answers; "+
			"unset the endpoint, or name this host in Options.Hosts if it really leads to KMS", u.Hostname())
	}
	return ""
}

// newHosts returns the names of Options.Hosts in lower case.
func newHosts(opts Options) ([]string, error) {
	hosts := make([]string, 0, len(opts.Hosts))
	for _, name := range opts.Hosts {
		host := strings.ToLower(name)
		if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
			return nil, &Error{Reason: ReasonInvalidOptions,
				Detail: fmt.Sprintf("Hosts has %.300q, which isn't a host: it takes exact names or addresses, without scheme, port or wildcard", name)}
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// hostName matches a DNS name in lower case (RFC 1123 section 2.1).
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

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
