package kmstest

import (
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func (c *call) describeKey() (map[string]any, *apiError) {
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, ""); failure != nil {
		return nil, failure
	}
	enabled := c.server.isEnabled(k)
	state := types.KeyStateEnabled
	if !enabled {
		state = types.KeyStateDisabled
	}
	metadata := map[string]any{
		"AWSAccountId":          c.server.caller.account,
		"Arn":                   k.arn,
		"CreationDate":          k.created.Unix(), // seconds since 1970 in this protocol
		"CustomerMasterKeySpec": k.spec,
		"Description":           "",
		"Enabled":               enabled,
		"KeyId":                 k.id,
		"KeyManager":            types.KeyManagerTypeCustomer,
		"KeySpec":               k.spec,
		"KeyState":              state,
		"KeyUsage":              k.usage,
		"MultiRegion":           false,
		"Origin":                types.OriginTypeAwsKms,
	}
	if k.agreement != nil {
		metadata["KeyAgreementAlgorithms"] = types.KeyAgreementAlgorithmSpec("").Values()
	} else {
		metadata["EncryptionAlgorithms"] = k.encryptionAlgorithms()
	}
	if k.aead != nil {
		metadata["CurrentKeyMaterialId"] = k.materialID
	}
	return map[string]any{"KeyMetadata": metadata}, nil
}

// getPublicKey is for who encrypts with an RSA key outside KMS, and for the peer
// of DeriveSharedSecret.
func (c *call) getPublicKey() (map[string]any, *apiError) {
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, k.usage); failure != nil {
		return nil, failure
	}
	answer := map[string]any{
		"KeyId":                 k.arn,
		"CustomerMasterKeySpec": k.spec,
		"KeySpec":               k.spec,
		"KeyUsage":              k.usage,
	}
	var public any
	switch {
	case k.agreement != nil:
		public = k.agreement.PublicKey()
		answer["KeyAgreementAlgorithms"] = types.KeyAgreementAlgorithmSpec("").Values()
	case k.rsa != nil:
		public = &k.rsa.PublicKey
		answer["EncryptionAlgorithms"] = k.encryptionAlgorithms()
	default:
		return nil, newAPIError(codeUnsupported, "%s is not an asymmetric key.", k.arn)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, internalError("encoding the public key", err)
	}
	answer["PublicKey"] = spki
	return answer, nil
}
