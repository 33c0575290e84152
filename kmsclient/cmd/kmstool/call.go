package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// call makes the one call.
//
// The session is not closed. The process ends, which closes the device, and Close
// would wait up to two minutes for an NSM that hangs.
func (p *program) call(ctx context.Context, c *command, f *flags) (*output, error) {
	if err := p.readFiles(ctx, f); err != nil {
		return nil, err
	}
	f.stage = configuring
	cfg, err := p.config(ctx, c, f)
	if err != nil {
		return nil, err
	}
	f.stage = seeding
	session, err := p.openNSM()
	if err != nil {
		return nil, err
	}
	if err := p.seed(ctx, session); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("the NSM does not answer: %w", err)
		}
		// The kernel waits until it has enough of its own.
		p.say("warning: ", "the NSM's randomness did not get into the kernel's pool: "+err.Error())
	}
	dialer := vsockproxy.Dialer{Endpoint: f.proxy}
	opts := kmsclient.Options{Dial: dialer.DialContext, RootCAs: p.roots}
	if f.roots != nil {
		opts.RootCAs = f.roots
	}
	if f.endpointHost != "" {
		opts.Hosts = []string{f.endpointHost}
	}
	if f.pinned() {
		opts.KeyIDs = []string{f.keyID}
	} else {
		opts.UnsafeAnyKey = true
		p.warnOfKey(c, f)
	}
	f.stage = asking
	client, err := kmsclient.New(ctx, cfg, session, opts)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, client, f)
}

func (p *program) warnOfKey(c *command, f *flags) {
	switch {
	case !c.withKey || f.unsafeAnyKey:
	case f.keyID == "":
		p.say("warning: ", "no key is pinned: whoever made the ciphertext may have chosen the plaintext; give the key's full ARN in --key-id, or --unsafe-any-key if that is meant")
	default:
		p.say("warning: ", "--key-id is not a full key ARN, and pins no key: with credentials of another account it is another's key; give the ARN, or --unsafe-any-key if that is meant")
	}
}

// config makes the SDK's configuration. The region is never the metadata
// service's, which is the parent's word.
func (p *program) config(ctx context.Context, c *command, f *flags) (aws.Config, error) {
	opts := kmsclient.ConfigOptions{Region: f.region}
	if opts.Region == "" && f.pinned() {
		opts.Region = regionOf(f.keyID)
	}
	if opts.Region == "" && os.Getenv("AWS_REGION") == "" && os.Getenv("AWS_DEFAULT_REGION") == "" {
		p.say("warning: ", "neither --region nor AWS_REGION is set: it is "+defaultRegion)
		opts.Region = defaultRegion
	}
	if f.accessKeyID != "" {
		opts.Credentials = credentials.NewStaticCredentialsProvider(f.accessKeyID, f.secret, f.sessionToken)
	}
	if f.imdsFlag != "" {
		// LoadConfig has the environment come first. Here it is a flag that
		// asks for the role, and flags come before the environment.
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
			if err := os.Unsetenv(name); err != nil {
				return aws.Config{}, err
			}
		}
		dialer := vsockproxy.Dialer{Endpoint: f.imds}
		opts.DialIMDS = dialer.DialContext
	}
	cfg, err := kmsclient.LoadConfig(ctx, opts)
	if err != nil {
		return aws.Config{}, err
	}
	// Those of the role are news.
	got, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	p.keepSecret(got.SecretAccessKey, got.SessionToken)
	if f.endpoint != "" {
		cfg.BaseEndpoint = &f.endpoint
	}
	f.region = cfg.Region
	return cfg, nil
}

// regionOf returns the region of an ARN, or "" if there is none.
func regionOf(arn string) string {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) < 5 {
		return ""
	}
	return parts[3]
}

// seed stirs randomness of the NSM into the kernel's pool, before anything makes
// a key. Session.Read takes no context, and may hang for two minutes.
func (p *program) seed(ctx context.Context, random io.Reader) error {
	_, err := await(ctx, func() (int64, error) {
		pool, err := os.OpenFile(p.entropyPool, os.O_WRONLY, 0)
		if err != nil {
			return 0, err
		}
		n, err := io.CopyN(pool, random, entropySize)
		return n, errors.Join(err, pool.Close())
	})
	return err
}
