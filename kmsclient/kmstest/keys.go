package kmstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/kmsclient/internal/rsakey"
)

// KeyOptions describes a key for CreateKey. The zero value is a symmetric
// encryption key that the whole account may use.
type KeyOptions struct {
	// Spec is SYMMETRIC_DEFAULT (the zero value), RSA_2048, RSA_3072 or RSA_4096
	// for a key that encrypts, or ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521
	// for a key whose usage is KEY_AGREEMENT, for DeriveSharedSecret. An RSA key
	// takes up to some seconds to make.
	Spec types.KeySpec
	// Policy is the key policy; nil is KMS's default, by which the account, and
	// so every caller with the server's credentials, may do everything, attested
	// or not: a test with such a key proves nothing about attestation. CreateKey
	// copies it.
	Policy *Policy
	// Alias is another name for the key, such as "alias/orders". Optional. It
	// must be new; SetAlias also takes it from another key.
	Alias string
}

// key is a KMS key. All fields but enabled are fixed at creation; the server's
// mutex guards enabled.
type key struct {
	id         string // UUID
	arn        string
	spec       types.KeySpec
	usage      types.KeyUsageType
	policy     *Policy
	created    time.Time
	materialID string           // 64 hexadecimal digits
	aead       cipher.AEAD      // of a symmetric key
	rsa        *rsa.PrivateKey  // of an RSA key that encrypts
	agreement  *ecdh.PrivateKey // of a KEY_AGREEMENT key
	enabled    bool
}

var (
	keyIDForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	aliasForm = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	curves    = map[types.KeySpec]ecdh.Curve{
		types.KeySpecEccNistP256: ecdh.P256(),
		types.KeySpecEccNistP384: ecdh.P384(),
		types.KeySpecEccNistP521: ecdh.P521(),
	}
	rsaBits = map[types.KeySpec]int{
		types.KeySpecRsa2048: 2048,
		types.KeySpecRsa3072: 3072,
		types.KeySpecRsa4096: 4096,
	}
)

// CreateKey makes a key and returns its ARN. The key lives in memory, as long
// as the server. The error is an *[Error]: ReasonInvalidOptions or ReasonInvalidPolicy.
func (s *Server) CreateKey(options KeyOptions) (arn string, err error) {
	policy := defaultPolicy(s.caller.account)
	if options.Policy != nil {
		policy = options.Policy.clone()
		if err := policy.check("CreateKey"); err != nil {
			return "", err
		}
	}
	if options.Alias != "" {
		if err := checkAlias("CreateKey", options.Alias); err != nil {
			return "", err
		}
	}
	id := newUUID()
	k := &key{
		id:         id,
		arn:        s.arn("key/" + id),
		spec:       types.KeySpecSymmetricDefault,
		usage:      types.KeyUsageTypeEncryptDecrypt,
		policy:     policy,
		created:    s.clock(),
		materialID: randomHex(32),
		enabled:    true,
	}
	if curve, ok := curves[options.Spec]; ok {
		k.spec, k.usage = options.Spec, types.KeyUsageTypeKeyAgreement
		k.agreement, err = curve.GenerateKey(rand.Reader)
	} else if bits, ok := rsaBits[options.Spec]; ok {
		k.spec = options.Spec
		k.rsa, err = rsakey.Generate(bits)
	} else if options.Spec == "" || options.Spec == k.spec {
		k.aead, err = newAEAD()
	} else {
		return "", optionError("CreateKey", "Spec", "%.100q is not supported; supported are SYMMETRIC_DEFAULT, RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384 and ECC_NIST_P521", options.Spec)
	}
	if err != nil {
		return "", &Error{Op: "CreateKey", Reason: ReasonInvalidOptions, Field: "Spec", Detail: "making the key", Err: err}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if options.Alias != "" {
		if _, taken := s.aliases[options.Alias]; taken {
			return "", optionError("CreateKey", "Alias", "%q is another key's", options.Alias)
		}
		s.aliases[options.Alias] = k
	}
	s.keys[id] = k
	return k.arn, nil
}

// SetAlias makes an alias, such as "alias/orders", another name for the key,
// given by its ID, ARN or another alias, and takes it from the key that has it:
// as CreateAlias and UpdateAlias do. Requests from now on find the new key, and
// are answered with its ARN. The error is an *[Error], ReasonInvalidOptions or
// ReasonUnknownKey.
func (s *Server) SetAlias(alias, keyID string) error {
	if err := checkAlias("SetAlias", alias); err != nil {
		return err
	}
	k, failure := s.findKey(keyID)
	if failure != nil {
		return &Error{Op: "SetAlias", Reason: ReasonUnknownKey, Detail: failure.message}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases[alias] = k
	return nil
}

// checkAlias leaves alias/aws/ to AWS's own keys, as KMS does.
func checkAlias(op, alias string) error {
	if !aliasForm.MatchString(alias) || strings.HasPrefix(alias, "alias/aws/") {
		return optionError(op, "Alias", "%.300q is not alias/ and a name of letters, digits and /_-, or begins with alias/aws/", alias)
	}
	return nil
}

// SetKeyEnabled enables or disables a key, given by its ID, ARN or alias. The
// error is an *[Error], ReasonUnknownKey.
func (s *Server) SetKeyEnabled(keyID string, enabled bool) error {
	k, failure := s.findKey(keyID)
	if failure != nil {
		return &Error{Op: "SetKeyEnabled", Reason: ReasonUnknownKey, Detail: failure.message}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k.enabled = enabled
	return nil
}

// findKey resolves a key ID, key ARN, alias name or alias ARN.
func (s *Server) findKey(name string) (*key, *apiError) {
	resource := name
	if strings.HasPrefix(name, "arn:") {
		parts := strings.SplitN(name, ":", 6)
		if len(parts) != 6 || parts[2] != "kms" {
			return nil, newAPIError(codeNotFound, "Invalid arn %.200s", name)
		}
		if parts[3] != s.region {
			return nil, newAPIError(codeNotFound, "Invalid arn %.200s", parts[3])
		}
		resource = parts[5]
		if name != s.arn(resource) { // another account or partition
			return nil, newAPIError(codeNotFound, "Key '%.200s' does not exist", name)
		}
		if id, ofKey := strings.CutPrefix(resource, "key/"); ofKey && keyIDForm.MatchString(id) {
			resource = id
		} else if !strings.HasPrefix(resource, "alias/") {
			return nil, newAPIError(codeNotFound, "Invalid arn %.200s", name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(resource, "alias/") {
		if k, ok := s.aliases[resource]; ok {
			return k, nil
		}
		return nil, newAPIError(codeNotFound, "Alias %.400s is not found.", s.arn(resource))
	}
	if !keyIDForm.MatchString(resource) {
		return nil, newAPIError(codeNotFound, "Invalid keyId '%.200s'", resource)
	}
	if k, ok := s.keys[resource]; ok {
		return k, nil
	}
	return nil, newAPIError(codeNotFound, "Key '%s' does not exist", s.arn("key/"+resource))
}

func (s *Server) isEnabled(k *key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return k.enabled
}

func (s *Server) arn(resource string) string {
	return fmt.Sprintf("arn:%s:kms:%s:%s:%s", s.caller.partition, s.region, s.caller.account, resource)
}

func newAEAD() (cipher.AEAD, error) {
	material := make([]byte, 32)
	rand.Read(material) // never fails: crypto/rand
	block, err := aes.NewCipher(material)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40 // version 4 (RFC 9562, section 5.4)
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func randomHex(size int) string {
	b := make([]byte, size)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// madeUpCredentials are the access key pair of a server that was given none.
func madeUpCredentials() aws.Credentials {
	return aws.Credentials{
		AccessKeyID:     "AKIA" + strings.ToUpper(randomHex(8)),
		SecretAccessKey: randomHex(20),
		Source:          "kmstest",
	}
}
