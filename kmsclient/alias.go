package kmsclient

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"

	"github.com/keyvouch/keyvouch/kmsclient/internal/channel"
)

// ResolveAlias asks KMS once which key an alias leads to and returns the key's ARN, to be
// pinned in Options.KeyIDs. It refuses a key of another account, region or partition
// than the alias's.
//
//	keyARN, err := kmsclient.ResolveAlias(ctx, cfg, "arn:aws:kms:eu-west-1:111122223333:alias/orders",
//		kmsclient.ResolveOptions{Dial: dialer.DialContext})
//	…
//	client, err := kmsclient.New(ctx, cfg, session, kmsclient.Options{KeyIDs: []string{keyARN}, Dial: dialer.DialContext})
//
// A client does not take aliases for pins, since whoever has kms:UpdateAlias can point
// one to another key at any time. ResolveAlias leaves them the moment at which it runs.
// An ARN in the image leaves them nothing: prefer it.
//
// The alias is its full ARN, with the account, so that other credentials cannot make it
// another's. The request is kms:DescribeKey, without a document, since it has no
// recipient.
//
// The error is of type [*Error], and then the ARN is empty. ReasonInvalidOptions: not the
// ARN of an alias, or the configuration lacks its credentials or is for another region.
// ReasonResponseKey: the response is not a key of the alias's account. Others are as for
// an attested operation. ResolveAlias is safe for concurrent use.
func ResolveAlias(ctx context.Context, cfg aws.Config, alias string, opts ResolveOptions) (keyARN string, err error) {
	asked, err := parseAlias(alias)
	if err == nil {
		keyARN, err = resolveAlias(ctx, cfg, asked, opts)
	}
	if err != nil {
		return "", named("ResolveAlias", err)
	}
	return keyARN, nil
}

// ResolveOptions say how [ResolveAlias] reaches KMS. The fields are those of [Options]
// with the same names.
type ResolveOptions struct {
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	RootCAs *x509.CertPool
	Hosts   []string
}

func parseAlias(alias string) (arn.ARN, error) {
	a, err := arn.Parse(alias)
	name, isAlias := strings.CutPrefix(a.Resource, "alias/")
	if err != nil || a.Service != "kms" || a.Partition == "" || a.Region == "" || a.AccountID == "" || !isAlias || name == "" {
		return arn.ARN{}, &Error{Reason: ReasonInvalidOptions, Field: "alias", KeyID: alias,
			Detail: quoteID(alias) + " is not the ARN of an alias: arn:<partition>:kms:<region>:<account>:alias/<name>; a bare name does not say in whose account it is"}
	}
	return a, nil
}

func resolveAlias(ctx context.Context, cfg aws.Config, alias arn.ARN, opts ResolveOptions) (string, error) {
	hosts, err := newHosts(opts.Hosts)
	if err != nil {
		return "", err
	}
	switch {
	case cfg.Region != alias.Region:
		return "", &Error{Reason: ReasonInvalidOptions, Field: "aws.Config.Region", KeyID: alias.String(), Detail: fmt.Sprintf("%.100q is not the region of the alias %v", cfg.Region, alias)}
	case cfg.Credentials == nil:
		return "", errNoCredentials
	}
	http := channel.New(opts.Dial, opts.RootCAs)
	defer http.CloseIdleConnections()
	client := kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.HTTPClient = http
		o.APIOptions = append(slices.Clone(o.APIOptions), func(stack *middleware.Stack) error { return guard(stack, hosts) })
	})
	id := aws.String(alias.String())
	asked := &call{op: "ResolveAlias", keyID: &id, attempts: 1, last: attempt{progress: new(channel.Progress)}}
	out, err := client.DescribeKey(channel.WithProgress(ctx, asked.last.progress), &kms.DescribeKeyInput{KeyId: id})
	if err != nil {
		return "", asked.explain(ctx, err)
	}
	responded := ""
	if out.KeyMetadata != nil {
		responded = aws.ToString(out.KeyMetadata.Arn)
	}
	key, err := arn.Parse(responded)
	if _, bad := parsePin(responded); err != nil || bad != nil ||
		key.Partition != alias.Partition || key.Region != alias.Region || key.AccountID != alias.AccountID {
		return "", &Error{Reason: ReasonResponseKey, Field: keyPlace(responded), KeyID: responded, Detail: "the response names no key in the partition, region and account of " + alias.String()}
	}
	return responded, nil
}
