//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/internal/e2e"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

// parent is the way to KMS's stand-in: a vsockproxy.Proxy, outside this guest.
var parent = vsockproxy.Vsock(e2e.HostCID, e2e.ProxyPort)

func (g *guest) config() aws.Config {
	return aws.Config{
		Region:      g.world.Region,
		Credentials: credentials.NewStaticCredentialsProvider(g.world.AccessKeyID, g.world.SecretAccessKey, g.world.SessionToken),
	}
}

func (g *guest) kms(ctx context.Context, s *nsm.Session, keys ...string) (*kms.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(g.world.RootCAs) {
		return nil, errors.New("the host's certificate for KMS's stand-in can't be read")
	}
	dialer := vsockproxy.Dialer{Endpoint: parent}
	return kmsclient.New(ctx, g.config(), s, kmsclient.Options{KeyIDs: keys, Dial: dialer.DialContext, RootCAs: roots})
}

// keyRelease has secrets released through the parent's proxy: TLS from inside this
// guest, over vsock, to KMS's stand-in on the host, which judges the PCRs that the
// NSM measured. Its documents are signed by the host in AWS's place.
func (g *guest) keyRelease() {
	released := func(name string, f func(ctx context.Context, signed *nsm.Session) (string, error)) {
		g.check("keyrelease/"+name, func(ctx context.Context) (string, error) {
			if g.world == nil {
				return "", skipped("the host has no vsock here")
			}
			s, err := g.signedSession()
			if err != nil {
				return "", err
			}
			detail, err := f(ctx, s)
			return detail, errors.Join(err, s.Close())
		})
	}
	refused := func(out *kms.DecryptOutput, err error, reason kmsclient.Reason) (string, error) {
		var e *kmsclient.Error
		if !errors.As(err, &e) || e.Reason != reason || out != nil {
			return "", fmt.Errorf("%v, want reason %s", err, reason)
		}
		return e.Error(), nil
	}

	released("decrypt", func(ctx context.Context, s *nsm.Session) (string, error) {
		client, err := g.kms(ctx, s, g.world.KeyARN)
		if err != nil {
			return "", err
		}
		for range 3 {
			out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: g.world.Sealed})
			if err != nil {
				return "", err
			}
			if digest := sha256.Sum256(out.Plaintext); hex.EncodeToString(digest[:]) != g.world.SHA256 {
				return "", fmt.Errorf("another secret, of %d bytes", len(out.Plaintext))
			}
		}
		return "3 times the secret that the owner sealed", nil
	})
	released("data-key", func(ctx context.Context, s *nsm.Session) (string, error) {
		client, err := g.kms(ctx, s, g.world.KeyARN)
		if err != nil {
			return "", err
		}
		made, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &g.world.KeyARN, KeySpec: types.DataKeySpecAes256})
		if err != nil {
			return "", err
		}
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob})
		if err != nil {
			return "", err
		}
		if len(made.Plaintext) != 32 || !bytes.Equal(out.Plaintext, made.Plaintext) {
			return "", fmt.Errorf("keys of %d and %d bytes, or unequal ones", len(made.Plaintext), len(out.Plaintext))
		}
		return "made, and decrypted again", nil
	})
	released("another-image", func(ctx context.Context, s *nsm.Session) (string, error) {
		client, err := g.kms(ctx, s, g.world.OtherKeyARN)
		if err != nil {
			return "", err
		}
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: g.world.OtherSealed})
		return refused(out, err, kmsclient.ReasonAccessDenied)
	})
	released("unsigned-document", func(ctx context.Context, _ *nsm.Session) (string, error) {
		bare, err := nsm.Open() // what QEMU's NSM gives, as it is
		if err != nil {
			return "", err
		}
		defer bare.Close()
		client, err := g.kms(ctx, bare, g.world.KeyARN)
		if err != nil {
			return "", err
		}
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: g.world.Sealed})
		return refused(out, err, kmsclient.ReasonKMS)
	})
	released("untrusted-parent", func(ctx context.Context, s *nsm.Session) (string, error) {
		dialer := vsockproxy.Dialer{Endpoint: parent}
		// Amazon's roots, under which the stand-in has no certificate.
		client, err := kmsclient.New(ctx, g.config(), s, kmsclient.Options{KeyIDs: []string{g.world.KeyARN}, Dial: dialer.DialContext})
		if err != nil {
			return "", err
		}
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: g.world.Sealed})
		return refused(out, err, kmsclient.ReasonChannel)
	})
}
