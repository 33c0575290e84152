package kmsclient

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// ConfigOptions say where [LoadConfig] takes a configuration from. The zero value takes
// all of it from the environment.
type ConfigOptions struct {
	// Region is the AWS region, such as eu-west-1. If empty, it is AWS_REGION, else
	// AWS_DEFAULT_REGION, else what the instance metadata service says. That is the
	// parent's word: set Region where it matters. A client with pinned keys works only
	// in their regions.
	Region string

	// Credentials make the credentials, which are cached while they are valid. If nil,
	// they are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which
	// nothing renews, else those of the parent instance's role, which are renewed
	// before they expire.
	Credentials aws.CredentialsProvider

	// DialIMDS makes connections to the parent instance's metadata service: the
	// DialContext of a vsock dialer, at whose other end the parent's proxy forwards to
	// 169.254.169.254:80. It gets "tcp" and "169.254.169.254", without a port, because
	// a vsockproxy.Dialer refuses port 80. Nil means that there is no such service.
	// Only version 2 of the service (IMDSv2) is used.
	DialIMDS func(ctx context.Context, network, address string) (net.Conn, error)

	// Dial makes the connections of other clients made from the configuration, such as
	// STS's. It gets "tcp" and their endpoint's host:port. Nil dials TCP. The clients
	// of [New] and [Attested] connect by Options.Dial.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// RootCAs are the only roots accepted on the connections of Dial. Nil means those
	// of Amazon Trust Services.
	RootCAs *x509.CertPool
}

// LoadConfig returns a configuration for clients in an enclave. It refuses an
// environment with half a pair of credentials, or a region that is none.
//
// It takes the place of the SDK's config.LoadDefaultConfig, which looks for credentials
// in files, in processes and at addresses that the environment names, and lets the
// environment move the endpoints. LoadConfig reads AWS_REGION, AWS_DEFAULT_REGION,
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. Nothing else of the
// environment has an effect, neither here nor on what the configuration does:
// AWS_ENDPOINT_URL, AWS_PROFILE, AWS_CONFIG_FILE, AWS_CONTAINER_CREDENTIALS_FULL_URI,
// AWS_WEB_IDENTITY_TOKEN_FILE, AWS_CA_BUNDLE, HTTPS_PROXY and their like.
//
// What the instance metadata service says is the parent's word, over plain HTTP. A
// client with pinned keys comes to no harm by it: see "Credentials" in the package's
// documentation. Other clients may: a dishonest parent can have them work in its own
// account.
//
// The configuration's HTTP client connects by Dial, with TLS as in a client of [New].
// Credentials of another role are, with stscreds and sts of the SDK:
//
//	cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), roleARN))
//
// LoadConfig fetches the credentials of the parent's role once before it returns, so
// that a parent without proxy or role is noticed at once. Errors are of type [*Error]:
// ReasonNoRegion, ReasonNoCredentials, ReasonInvalidOptions, ReasonChannel if the
// metadata service cannot be reached, ReasonInstanceMetadata if it responds with nothing
// of use, and ReasonCanceled. LoadConfig is safe for concurrent use.
func LoadConfig(ctx context.Context, opts ConfigOptions) (aws.Config, error) {
	if err := checkContext(ctx); err != nil {
		return aws.Config{}, named("LoadConfig", err)
	}
	var metadata *imds.Client
	if opts.DialIMDS != nil {
		metadata = newMetadataClient(opts.DialIMDS)
	}
	region, err := findRegion(ctx, opts.Region, metadata)
	if err != nil {
		return aws.Config{}, named("LoadConfig", err)
	}
	provider, err := findCredentials(ctx, opts.Credentials, metadata)
	if err != nil {
		return aws.Config{}, named("LoadConfig", err)
	}
	return aws.Config{Region: region, Credentials: provider, HTTPClient: channel.New(opts.Dial, opts.RootCAs)}, nil
}

func findRegion(ctx context.Context, region string, metadata *imds.Client) (string, error) {
	for _, from := range []struct{ name, value string }{
		{"ConfigOptions.Region", region},
		{"AWS_REGION", os.Getenv("AWS_REGION")},
		{"AWS_DEFAULT_REGION", os.Getenv("AWS_DEFAULT_REGION")},
	} {
		if from.value == "" {
			continue
		}
		if !regionName.MatchString(from.value) {
			return "", &Error{Reason: ReasonInvalidOptions, Field: from.name, Detail: fmt.Sprintf("%.100q is not a region's name, such as eu-west-1", from.value)}
		}
		return from.value, nil
	}
	if metadata == nil {
		return "", &Error{Reason: ReasonNoRegion,
			Detail: "set ConfigOptions.Region or AWS_REGION, or ConfigOptions.DialIMDS to have the parent instance's; files are not read"}
	}
	return metadataRegion(ctx, metadata)
}

// regionName matches what becomes part of host names. kmsHost has the same.
var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
