package kmsclient

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// ResolveAlias asks KMS, once, which key an alias leads to, and returns the key's
// ARN, to be pinned in Options.KeyIDs:
//
//	keyARN, err := kmsclient.ResolveAlias(ctx, cfg, "arn:aws:kms:eu-west-1:111122223333:alias/orders", opts)
//	…
//	opts.KeyIDs = []string{keyARN}
//	client, err := kmsclient.New(ctx, cfg, session, opts)
//
// A client doesn't take aliases for pins, since whoever has kms:UpdateAlias can
// point one to another key at any time. ResolveAlias leaves them the moment at
// which it runs. An ARN in the image leaves them nothing: prefer it.
//
// The alias is its full ARN, with the account, so that other credentials can't
// make it another's: a key of another account, region or partition is refused.
// The request is kms:DescribeKey, without a document, since it has no recipient.
// From opts come Dial, RootCAs and Hosts, for the same channel as New's; the
// rest isn't looked at.
//
// The error is of type *Error, and then the ARN is empty. ReasonInvalidOptions: not
// an alias's ARN, or the configuration lacks its credentials or is for another
// region than the alias is in. ReasonAnswerKey: the answer isn't a key of the
// alias's account. Others are as for an attested operation.
//
// ResolveAlias is safe for concurrent use.
func ResolveAlias(ctx context.Context, cfg aws.Config, alias string, opts Options) (keyARN string, err error) {
	asked, err := parseAlias(alias)
	if err == nil {
		keyARN, err = resolveAlias(ctx, cfg, asked, opts)
	}
	if err != nil {
		return "", named("ResolveAlias", err)
	}
	return keyARN, nil
}

func parseAlias(alias string) (arn.ARN, error) {
	a, err := arn.Parse(alias)
	name, isAlias := strings.CutPrefix(a.Resource, "alias/")
	if err != nil || a.Service != "kms" || a.Partition == "" || a.Region == "" || a.AccountID == "" || !isAlias || name == "" {
		return arn.ARN{}, &Error{Reason: ReasonInvalidOptions, KeyID: alias,
			Detail: "not the ARN of an alias: arn:<partition>:kms:<region>:<account>:alias/<name>; a bare name doesn't say in whose account it is"}
	}
	return a, nil
}

func resolveAlias(ctx context.Context, cfg aws.Config, alias arn.ARN, opts Options) (string, error) {
	hosts, err := newHosts(opts)
	if err != nil {
		return "", err
	}
	switch {
	case cfg.Region != alias.Region:
		return "", &Error{Reason: ReasonInvalidOptions, KeyID: alias.String(), Detail: fmt.Sprintf("the configuration's region is %q, not the alias's", cfg.Region)}
	case cfg.Credentials == nil:
		return "", &Error{Reason: ReasonInvalidOptions, Detail: "no credentials: set cfg.Credentials, an enclave has nothing to take them from"}
	}
	channel := newChannel(opts.Dial, opts.RootCAs)
	defer channel.CloseIdleConnections()
	client := kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.HTTPClient = channel
		o.APIOptions = append(slices.Clone(o.APIOptions), func(stack *middleware.Stack) error { return guard(stack, hosts) })
	})
	id := aws.String(alias.String())
	asked := &call{op: "ResolveAlias", keyID: &id, attempts: 1, last: attempt{progress: new(progress)}}
	out, err := client.DescribeKey(withProgress(ctx, asked.last.progress), &kms.DescribeKeyInput{KeyId: id})
	if err != nil {
		return "", asked.explain(ctx, err)
	}
	answered := ""
	if out.KeyMetadata != nil {
		answered = aws.ToString(out.KeyMetadata.Arn)
	}
	key, err := arn.Parse(answered)
	if _, bad := parsePin(answered); err != nil || bad != nil ||
		key.Partition != alias.Partition || key.Region != alias.Region || key.AccountID != alias.AccountID {
		return "", &Error{Reason: ReasonAnswerKey, KeyID: answered, Detail: "the answer names no key in the partition, region and account of " + alias.String()}
	}
	return answered, nil
}
