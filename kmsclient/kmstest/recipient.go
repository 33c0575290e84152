package kmstest

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest/internal/envelope"
)

var errEnvelopeTooLong = errors.New("CiphertextForRecipient too long")

// recipient is an attested enclave, or an EC2 instance with a NitroTPM, that
// answers are encrypted for. A nil recipient is a request without one.
type recipient struct {
	key    *rsa.PublicKey
	claims attestation.Claims
}

// addMeasurements adds the attestation condition keys. Those of an enclave and
// of a NitroTPM differ, so that no policy takes one for the other.
func (r *recipient) addMeasurements(keys conditionKeys) {
	name := attestationKeyPrefix + "PCR"
	if r.claims.Platform == attestation.PlatformNitroTPM {
		name = attestationKeyPrefix + "NitroTPMPCR"
	}
	for index, value := range r.claims.PCRs {
		text := value.String()
		keys.add(name+strconv.Itoa(index), text)
		if index == 0 && r.claims.Platform == attestation.PlatformEnclave {
			keys.add(ImageSha384, text)
		}
	}
}

// newRecipientVerifiers leave the PCRs to the key's policy, which is what
// judges them in KMS: hence any measurement, and zero PCRs of debug mode too.
// KMS does not use the nonce.
func newRecipientVerifiers(root *x509.Certificate, clock func() time.Time) (map[attestation.Platform]*attestation.Verifier, error) {
	verifiers := map[attestation.Platform]*attestation.Verifier{}
	for _, platform := range []attestation.Platform{attestation.PlatformEnclave, attestation.PlatformNitroTPM} {
		verifier, err := attestation.NewVerifier(attestation.Policy{
			UnsafeAnyMeasurement: true,
			UnsafeAllowDebug:     true,
			Platform:             platform,
			MaxAge:               maxDocumentAge,
			Roots:                []*x509.Certificate{root},
			Clock:                clock,
		})
		if err != nil {
			return nil, err
		}
		verifiers[platform] = verifier
	}
	return verifiers, nil
}

// verify chooses the verifier by what the document claims to be, which the
// verifier then checks.
func (s *Server) verify(document []byte) (*attestation.Document, error) {
	claimed, err := attestation.ParseUnverified(document)
	if err != nil {
		return nil, err
	}
	return s.verifiers[claimed.Platform].Verify(document, attestation.Expect{UnsafeAnyNonce: true})
}

// readRecipient reads and verifies the Recipient parameter; nil if absent.
func (s *Server) readRecipient(input object) (*recipient, *apiError) {
	info, present, failure := input.child("Recipient")
	if failure != nil || !present {
		return nil, failure
	}
	algorithm, present, failure := info.text("KeyEncryptionAlgorithm")
	switch {
	case failure != nil:
		return nil, failure
	case !present:
		return nil, missingMember("recipient.keyEncryptionAlgorithm")
	case algorithm != string(types.KeyEncryptionMechanismRsaesOaepSha256):
		return nil, invalidMember("'"+shorten(algorithm)+"'", "recipient.keyEncryptionAlgorithm", "Member must satisfy enum value set: [RSAES_OAEP_SHA_256]")
	}
	document, present, failure := info.blob("AttestationDocument")
	switch {
	case failure != nil:
		return nil, failure
	case !present:
		return nil, missingMember("recipient.attestationDocument")
	case len(document) == 0:
		return nil, invalidMember("", "recipient.attestationDocument", "Member must have length greater than or equal to 1")
	case len(document) > maxDocumentLength:
		return nil, invalidMember("", "recipient.attestationDocument", "Member must have length less than or equal to 262144")
	case s.verifiers == nil:
		return nil, invalidDocument("this server trusts no attestation root: set Options.AttestationRoot")
	}
	verified, err := s.verify(document)
	if err != nil {
		return nil, invalidDocument(err.Error())
	}
	if len(verified.PublicKey) == 0 {
		return nil, invalidDocument("public_key is absent; it must be an RSA key as SubjectPublicKeyInfo")
	}
	public, err := x509.ParsePKIXPublicKey(verified.PublicKey)
	key, ok := public.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, invalidDocument("public_key is not an RSA key as SubjectPublicKeyInfo in DER")
	}
	switch key.N.BitLen() {
	case 2048, 3072, 4096:
	default:
		return nil, invalidDocument("public_key is not an RSA key of 2048, 3072 or 4096 bits")
	}
	return &recipient{key: key, claims: verified.Claims}, nil
}

func invalidDocument(why string) *apiError {
	failure := invalid("The attestation document in the request is not valid: %s", why)
	failure.detail = why
	return failure
}

// deliver puts plaintext into an answer: under plaintextName, or encrypted for
// the recipient if there is one, and then under no other name.
func (c *call) deliver(answer map[string]any, plaintextName string, plaintext []byte) *apiError {
	if c.recipient == nil {
		answer[plaintextName] = plaintext
		return nil
	}
	sealed, err := envelope.Seal(plaintext, c.recipient.key, c.recipient.claims.PublicKey, envelope.Form(c.server.envelopeForm))
	if err != nil {
		return invalidDocument("public_key cannot encrypt: " + err.Error())
	}
	if len(sealed) > maxEnvelopeLength {
		return internalError("sealing for the recipient", errEnvelopeTooLong)
	}
	answer["CiphertextForRecipient"] = sealed
	// KMS names the key material in its answer only without a recipient.
	delete(answer, "KeyMaterialId")
	return nil
}
