package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// Config is the deployment, as part of the image. The PCRs cover it: a changed Config makes
// another enclave.
type Config struct {
	// Region is the AWS region, and KeyARN the KMS key's full ARN.
	Region string `json:"region"`
	KeyARN string `json:"key_arn"`
	// Sealed is the application's secret as KMS encrypted it, in base64.
	Sealed []byte `json:"sealed"`
	// KMS and Metadata are the endpoints of the parent's proxy to KMS and to the
	// instance's metadata service: "vsock://3:8000" and "vsock://3:8002".
	KMS      string `json:"kms"`
	Metadata string `json:"metadata"`
	// Listen is the endpoint for clients: "vsock://any:5000" is port 5000, whatever the
	// enclave's context ID.
	Listen string `json:"listen"`
	// Heartbeat replaces the parent of a Nitro Enclave as the target of the heartbeat,
	// for other hypervisors.
	Heartbeat string `json:"heartbeat,omitempty"`
}

// maxConfig bounds the configuration, with room for the largest ciphertext of KMS.
const maxConfig = 64 << 10

// The placeholders of config.json in this repository.
const (
	placeholderKeyARN = "arn:aws:kms:eu-central-1:111122223333:key/REPLACE-WITH-THE-ID-OF-YOUR-KEY"
	placeholderSealed = "Replace this by the CiphertextBlob"
)

// ReadConfig reads a [Config] as JSON. It refuses unknown and missing members, and the
// placeholders of this repository's config.json.
func ReadConfig(r io.Reader) (Config, error) {
	var c Config
	decoder := json.NewDecoder(io.LimitReader(r, maxConfig))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("the configuration: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Config{}, errors.New("the configuration: more follows the JSON object, or it is too long")
	}
	if c.Region == "" || c.KeyARN == "" || len(c.Sealed) == 0 {
		return Config{}, errors.New("the configuration: region, key_arn and sealed must be set")
	}
	// KMS would refuse them as well, but in an enclave nobody sees the error.
	var left []string
	if c.KeyARN == placeholderKeyARN {
		left = append(left, "key_arn is still the placeholder: put in your KMS key's full ARN, which aws kms describe-key prints as Arn")
	}
	if string(c.Sealed) == placeholderSealed {
		left = append(left, "sealed is still the placeholder: put in your secret as KMS encrypted it with that key, which aws kms encrypt prints as CiphertextBlob")
	}
	if len(left) > 0 {
		return Config{}, errors.New("the configuration: " + strings.Join(left, "; "))
	}
	endpoints := map[string]string{"kms": c.KMS, "metadata": c.Metadata, "listen": c.Listen}
	if c.Heartbeat != "" {
		endpoints["heartbeat"] = c.Heartbeat
	}
	for name, text := range endpoints {
		if _, err := vsockproxy.ParseEndpoint(text); err != nil {
			return Config{}, fmt.Errorf("the configuration: %s: %w", name, err)
		}
	}
	return c, nil
}
