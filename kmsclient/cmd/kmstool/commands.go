package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// command is one of the operations.
type command struct {
	name, synopsis string
	withKey        bool // it has --key-id and --encryption-context
	needsKey       bool
	define         func(*flags)
	check          func(*flags) error
	call           func(context.Context, *kms.Client, *flags) (*output, error)
	// ignored are flags of others that kmstool_enclave_cli takes, and does
	// nothing with.
	ignored []string
}

var commands = map[string]*command{
	"decrypt": {
		name: "decrypt", withKey: true,
		synopsis: "--ciphertext BASE64|--ciphertext-file FILE [--key-id ARN] [flags]\n\nDecrypts a ciphertext and prints PLAINTEXT.",
		define: func(f *flags) {
			f.value("ciphertext", "the ciphertext, in `BASE64`", func(s string) (err error) {
				f.ciphertext, err = decodeCiphertext(s)
				return err
			})
			f.text(&f.ciphertextFile, "ciphertext-file", "a `FILE` that holds it instead, in base64; - is the standard input")
			f.value("encryption-algorithm", "the `ALGORITHM` it was encrypted with, one of "+list(types.EncryptionAlgorithmSpec("").Values())+
				"; needed for an asymmetric key", one(&f.algorithm))
		},
		check: func(f *flags) error {
			if f.algorithm != "" && f.algorithm != types.EncryptionAlgorithmSpecSymmetricDefault && f.keyID == "" {
				return fmt.Errorf("--encryption-algorithm %s is one of asymmetric keys, whose ciphertexts do not say their key: give --key-id", f.algorithm)
			}
			if f.ciphertext != nil && f.ciphertextFile != "" {
				return errors.New("--ciphertext-file beside --ciphertext: choose one")
			}
			return required("ciphertext or --ciphertext-file", f.ciphertext != nil || f.ciphertextFile != "")
		},
		call: func(ctx context.Context, client *kms.Client, f *flags) (*output, error) {
			out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: f.ciphertext, KeyId: f.key(),
				EncryptionAlgorithm: f.algorithm, EncryptionContext: f.context})
			if err != nil {
				return nil, err
			}
			return &output{Plaintext: out.Plaintext, KeyID: aws.ToString(out.KeyId)}, nil
		},
	},
	"genkey": {
		name: "genkey", withKey: true, needsKey: true,
		synopsis: "--key-id ARN --key-spec AES-256|AES-128 [flags]\n\nMakes a data key and prints CIPHERTEXT and PLAINTEXT.",
		define: func(f *flags) {
			f.value("key-spec", "`AES-256 or AES-128`", func(s string) error {
				spec := types.DataKeySpec(strings.ReplaceAll(s, "-", "_"))
				if !slices.Contains(spec.Values(), spec) {
					return errors.New("must be AES-256 or AES-128")
				}
				f.keySpec = spec
				return nil
			})
		},
		check: func(f *flags) error { return required("key-spec", f.keySpec != "") },
		call: func(ctx context.Context, client *kms.Client, f *flags) (*output, error) {
			out, err := client.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: f.key(), KeySpec: f.keySpec, EncryptionContext: f.context})
			if err != nil {
				return nil, err
			}
			return &output{Ciphertext: out.CiphertextBlob, Plaintext: out.Plaintext, KeyID: aws.ToString(out.KeyId)}, nil
		},
		ignored: []string{"ciphertext", "encryption-algorithm", "length"},
	},
	"genkeypair": {
		name: "genkeypair", withKey: true, needsKey: true,
		synopsis: "--key-id ARN --key-pair-spec SPEC [flags]\n\nMakes a data key pair and prints CIPHERTEXT, PLAINTEXT and PUBLICKEY.",
		define: func(f *flags) {
			f.value("key-pair-spec", "the `SPEC` of the pair, one of "+list(types.DataKeyPairSpec("").Values()), one(&f.pairSpec))
		},
		check: func(f *flags) error { return required("key-pair-spec", f.pairSpec != "") },
		call: func(ctx context.Context, client *kms.Client, f *flags) (*output, error) {
			out, err := client.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: f.key(), KeyPairSpec: f.pairSpec, EncryptionContext: f.context})
			if err != nil {
				return nil, err
			}
			return &output{Ciphertext: out.PrivateKeyCiphertextBlob, Plaintext: out.PrivateKeyPlaintext,
				PublicKey: out.PublicKey, KeyID: aws.ToString(out.KeyId)}, nil
		},
	},
	"genrandom": {
		name:     "genrandom",
		synopsis: "--length BYTES [flags]\n\nMakes random bytes and prints PLAINTEXT.",
		define: func(f *flags) {
			f.value("length", fmt.Sprintf("how many `BYTES`, 1 to %d", maxRandom), func(s string) error {
				n, err := strconv.Atoi(s)
				if err != nil || n < 1 || n > maxRandom {
					return fmt.Errorf("must be 1 to %d", maxRandom)
				}
				f.length = int32(n)
				return nil
			})
		},
		check: func(f *flags) error { return required("length", f.length != 0) },
		call: func(ctx context.Context, client *kms.Client, f *flags) (*output, error) {
			out, err := client.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(f.length)})
			if err != nil {
				return nil, err
			}
			return &output{Plaintext: out.Plaintext}, nil
		},
		ignored: []string{"ciphertext", "encryption-algorithm", "key-id", "key-spec"},
	},
}

func required(name string, given bool) error {
	if !given {
		return fmt.Errorf("--%s is missing", name)
	}
	return nil
}

// one takes one of the values that KMS has.
func one[T interface {
	~string
	Values() []T
}](to *T) func(string) error {
	return func(s string) error {
		for _, v := range (*to).Values() {
			if string(v) == s {
				*to = v
				return nil
			}
		}
		return errors.New("must be one of " + list((*to).Values()))
	}
}

func list[T ~string](values []T) string {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return strings.Join(names, ", ")
}

// decodeCiphertext decodes what a flag says or its file holds.
func decodeCiphertext(text string) ([]byte, error) {
	blob, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, errors.New("is not base64, in the standard alphabet and padded")
	case len(blob) == 0:
		return nil, errors.New("is empty")
	case len(blob) > maxCiphertext:
		return nil, fmt.Errorf("has %d bytes: KMS takes %d", len(blob), maxCiphertext)
	}
	return blob, nil
}
