package kmsclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// credentialsWindow is how long before they expire the role's credentials are
// replaced. The parent has new ones at least five minutes before (EC2 User Guide,
// "Retrieve security credentials from instance metadata").
const credentialsWindow = 5 * time.Minute

// ConfigOptions say where LoadConfig takes what it needs from. The zero value
// takes all from the environment.
type ConfigOptions struct {
	// Region is the AWS region, such as eu-west-1. If empty, it is AWS_REGION,
	// else AWS_DEFAULT_REGION, else what the instance metadata service says.
	// That is the parent's word: set Region where it matters. (A client with
	// pinned keys works only in a region of theirs.)
	Region string

	// Credentials make the credentials; they are cached as long as they are
	// valid. If nil, they are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
	// AWS_SESSION_TOKEN, which nothing renews, else those of the parent
	// instance's role, which are renewed before they expire.
	Credentials aws.CredentialsProvider

	// DialIMDS makes connections to the parent instance's metadata service: the
	// DialContext of a vsock dialer, at whose other end the parent's proxy
	// forwards to 169.254.169.254:80. It gets "tcp" and "169.254.169.254", with
	// no port: a vsockproxy.Dialer refuses port 80, which elsewhere means that
	// TLS was forgotten. Nil means that there is no such service; nothing else
	// is tried.
	//
	// Only version 2 of the service (IMDSv2) is used.
	DialIMDS func(ctx context.Context, network, address string) (net.Conn, error)

	// Dial makes the connections of other clients that are made from the
	// configuration, such as STS's; it gets "tcp" and their endpoint's
	// host:port. Nil dials TCP. The connections of New's and Attested's clients
	// are made by Options.Dial.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// RootCAs are, for the connections that Dial makes, what Options.RootCAs
	// are to KMS's: nil is Amazon's.
	RootCAs *x509.CertPool
}

// LoadConfig returns a configuration for clients in an enclave: it is to New
// what the SDK's config.LoadDefaultConfig is elsewhere. That one isn't fit for
// an enclave: it looks for credentials in files, in processes and at addresses
// that the environment names, and lets the environment move the endpoints.
//
// Of the environment LoadConfig reads AWS_REGION, AWS_DEFAULT_REGION,
// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN and nothing
// else: AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS, AWS_PROFILE, AWS_CONFIG_FILE,
// AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_WEB_IDENTITY_TOKEN_FILE,
// AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_CA_BUNDLE, HTTPS_PROXY and their like
// have no effect, on what the configuration does either.
//
// What the instance metadata service says is the parent's word, over plain
// HTTP, as it has to be. A client with pinned keys comes to no harm by it: see
// "Credentials" in the package's documentation. Other clients made from the
// configuration may: a dishonest parent can have them work in its own account.
//
// The configuration's HTTP client connects by Dial, with TLS as in a client of
// New's. So credentials of another role are, with stscreds and sts of the SDK:
//
//	cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), roleARN))
//
// Credentials of the parent's role are fetched once before LoadConfig returns,
// so that a parent without proxy or role is noticed at once. Errors are of type
// *Error: ReasonNoRegion, ReasonNoCredentials, ReasonInvalidOptions,
// ReasonChannel if the metadata service can't be reached,
// ReasonInstanceMetadata if it answers nothing of use; or the context's.
func LoadConfig(ctx context.Context, opts ConfigOptions) (aws.Config, error) {
	if err := ctx.Err(); err != nil {
		return aws.Config{}, err
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
	return aws.Config{Region: region, Credentials: provider, HTTPClient: newChannel(opts.Dial, opts.RootCAs)}, nil
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
			return "", &Error{Reason: ReasonInvalidOptions, Detail: fmt.Sprintf("%s is %.100q, which isn't a region's name, such as eu-west-1", from.name, from.value)}
		}
		return from.value, nil
	}
	if metadata == nil {
		return "", &Error{Reason: ReasonNoRegion,
			Detail: "set ConfigOptions.Region or AWS_REGION, or ConfigOptions.DialIMDS to have the parent instance's; files aren't read"}
	}
	return metadataRegion(ctx, metadata)
}

func findCredentials(ctx context.Context, provider aws.CredentialsProvider, metadata *imds.Client) (aws.CredentialsProvider, error) {
	if provider != nil {
		return aws.NewCredentialsCache(provider), nil
	}
	id, secret, token := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")
	switch {
	case id != "" && secret != "":
		return credentials.NewStaticCredentialsProvider(id, secret, token), nil
	case id != "" || secret != "" || token != "":
		// Others would take the next source, and surprise someone.
		return nil, &Error{Reason: ReasonNoCredentials,
			Detail: "the environment has some of AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, but not the first two: set both or none of the three"}
	case metadata == nil:
		return nil, &Error{Reason: ReasonNoCredentials,
			Detail: "set ConfigOptions.Credentials, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ConfigOptions.DialIMDS to have those of the parent instance's role; nothing else is consulted"}
	}
	cache := aws.NewCredentialsCache(newInstanceRole(metadata), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = credentialsWindow })
	if _, err := cache.Retrieve(ctx); err != nil {
		var ours *Error
		if errors.As(err, &ours) {
			return nil, ours // without what the SDK puts around it
		}
		return nil, err
	}
	return cache, nil
}

// regionName matches what becomes part of host names. kmsHost has the same.
var regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
