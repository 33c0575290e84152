package kmstest

import (
	"crypto/ecdsa"
	"crypto/x509"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// deriveSharedSecret is the ECC CDH primitive of NIST SP 800-56A Rev. 3, section
// 5.7.1.2: the x coordinate, as long as the curve's field. On the NIST curves
// the cofactor is 1.
func (c *call) deriveSharedSecret() (map[string]any, *apiError) {
	algorithm, failure := enum(c, "KeyAgreementAlgorithm", types.KeyAgreementAlgorithmSpec("").Values())
	if failure != nil {
		return nil, failure
	}
	if algorithm == "" {
		return nil, missingMember("keyAgreementAlgorithm")
	}
	spki, failure := c.requiredBlob("PublicKey", maxPublicKeyLength)
	if failure != nil {
		return nil, failure
	}
	k, failure := c.key()
	if failure != nil {
		return nil, failure
	}
	if failure := c.admit(k, types.KeyUsageTypeKeyAgreement); failure != nil {
		return nil, failure
	}
	secret, failure := k.agree(spki)
	if failure != nil {
		return nil, failure
	}
	if failure := c.dryRun(); failure != nil {
		return nil, failure
	}
	answer := map[string]any{
		"KeyId":                 k.arn,
		"KeyAgreementAlgorithm": algorithm,
		"KeyOrigin":             types.OriginTypeAwsKms,
	}
	if failure := c.deliver(answer, "SharedSecret", secret); failure != nil {
		return nil, failure
	}
	return answer, nil
}

func (k *key) agree(spki []byte) ([]byte, *apiError) {
	wrong := invalid("PublicKey is not a valid %s public key as SubjectPublicKeyInfo in DER.", k.spec)
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, wrong
	}
	public, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, wrong
	}
	peer, err := public.ECDH()
	if err != nil || peer.Curve() != k.agreement.Curve() {
		return nil, wrong
	}
	secret, err := k.agreement.ECDH(peer)
	if err != nil {
		return nil, wrong
	}
	return secret, nil
}
