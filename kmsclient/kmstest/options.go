package kmstest

import (
	"crypto/x509"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/keyvouch/keyvouch/kmsclient/kmstest/internal/envelope"
	"github.com/keyvouch/keyvouch/kmsclient/kmstest/internal/sigv4"
)

const (
	defaultRegion = "us-east-1"
	defaultRole   = "iam::111122223333:role/enclave"
)

var (
	hostNameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){0,16}$`)
	regionForm   = regexp.MustCompile(`^[a-z]{2}(-[a-z]{1,12}){1,3}-[0-9]{1,2}$`)
)

// Options configures a [Server]. The zero value is a server in us-east-1 that
// makes up its credentials and refuses every request with a Recipient.
type Options struct {
	// AttestationRoot is the root certificate that attestation documents must
	// lead to, such as the Root of an nsmtest.NSM. If nil, every request with
	// a Recipient is refused; there is no way to accept any document.
	AttestationRoot *x509.Certificate
	// Region is the region of the keys and of signatures, us-east-1 if empty.
	Region string
	// HostNames are the DNS names of the server's certificate, besides
	// 127.0.0.1 and localhost; the first is the one in Config. If nil, it is
	// KMS's name in the region, kms.<region>.amazonaws.com. A kmsclient takes
	// any other name only if its Options.Hosts has it.
	HostNames []string
	// Credentials are the ones requests must be signed with, with a session
	// token if it is set and until Expires if CanExpire is. If zero, a key pair
	// is made up; Config carries it.
	Credentials aws.Credentials
	// RoleARN is the IAM role behind the credentials, for key policies that
	// name it; arn:aws:iam::111122223333:role/enclave (in the region's
	// partition) if empty. Its account and partition are those of the keys.
	RoleARN string
	// WithoutIAMPermissions says that the role has no IAM policy for KMS, so
	// that a key policy's statement for the account grants it nothing. If
	// false, such a statement allows everything it names, and so does the
	// default key policy: test with true a policy that has both a statement for
	// the account and one for the attested role.
	WithoutIAMPermissions bool
	// EnvelopeForm is the encoding of CiphertextForRecipient's content,
	// EnvelopeChunked if zero.
	EnvelopeForm EnvelopeForm
	// Clock is the server's time, for signatures, attestation documents, the
	// Date header and creation dates. If nil, time.Now. One that is ahead or
	// behind makes every client's clock wrong: see "Clocks" in the package's
	// documentation. It is called from many goroutines.
	Clock func() time.Time
}

// EnvelopeForm is how the encrypted content of CiphertextForRecipient is encoded.
// KMS has sent both forms, so a client must read both.
type EnvelopeForm int

const (
	// EnvelopeChunked is a constructed [0] of indefinite length that holds octet
	// strings of at most 1000 bytes.
	EnvelopeChunked = EnvelopeForm(envelope.Chunked)
	// EnvelopePrimitive is one primitive [0] with a definite length.
	EnvelopePrimitive = EnvelopeForm(envelope.Primitive)
)

// newServer makes the server without its network side.
func newServer(options Options) (*Server, error) {
	s := &Server{
		region:       options.Region,
		envelopeForm: options.EnvelopeForm,
		clock:        options.Clock,
		keys:         map[string]*key{},
		aliases:      map[string]*key{},
	}
	if s.region == "" {
		s.region = defaultRegion
	}
	if !regionForm.MatchString(s.region) {
		return nil, optionError("NewServer", "Region", "%.100q is not a region, such as eu-central-1", s.region)
	}
	if s.clock == nil {
		s.clock = time.Now
	}
	if s.envelopeForm != EnvelopeChunked && s.envelopeForm != EnvelopePrimitive {
		return nil, optionError("NewServer", "EnvelopeForm", "%d is neither EnvelopeChunked nor EnvelopePrimitive", s.envelopeForm)
	}
	credentials := options.Credentials
	if credentials == (aws.Credentials{}) {
		credentials = madeUpCredentials()
	}
	if credentials.AccessKeyID == "" || credentials.SecretAccessKey == "" {
		return nil, optionError("NewServer", "Credentials", "no access key ID or no secret access key")
	}
	s.signatures = sigv4.Verifier{Region: s.region, Credentials: credentials}
	role := options.RoleARN
	if role == "" {
		role = "arn:" + partition(s.region) + ":" + defaultRole
	}
	var err error
	if s.caller, err = newCaller(role, options.WithoutIAMPermissions); err != nil {
		return nil, err
	}
	if options.AttestationRoot != nil {
		if s.verifiers, err = newRecipientVerifiers(options.AttestationRoot, s.clock); err != nil {
			return nil, &Error{Op: "NewServer", Reason: ReasonInvalidOptions, Field: "AttestationRoot", Err: err}
		}
	}
	return s, nil
}

func partition(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

func kmsHostName(region string) string {
	name := "kms." + region + ".amazonaws.com"
	if strings.HasPrefix(region, "cn-") {
		name += ".cn"
	}
	return name
}
