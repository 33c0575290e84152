package kmsclient

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

// Attester makes attestation documents. *[nsm.Session] is one. It must be safe for
// concurrent use if the client is used concurrently, and should honour the context.
type Attester interface {
	Attest(ctx context.Context, r nsm.AttestationRequest) ([]byte, error)
}

// Options configure a client. The zero value is refused: set KeyIDs.
type Options struct {
	// KeyIDs are the full ARNs of the KMS keys that the client may use, such as
	// arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab.
	// Aliases and bare key IDs are refused: whoever has kms:UpdateAlias can point an
	// alias to another key, and a bare ID does not name its account.
	//
	// A request for another key is refused before it is sent. This covers KeyId,
	// SourceKeyId, DestinationKeyId and TargetKeyId of every operation but those that
	// only read about a key: DescribeKey, GetKeyLastUsage, GetKeyPolicy,
	// GetKeyRotationStatus, GetPublicKey, ListAliases, ListGrants, ListKeyPolicies,
	// ListKeyRotations and ListResourceTags. Operations that name no key, such as
	// CreateKey, GenerateRandom and DeleteAlias, are free. ReEncrypt must name its
	// SourceKeyId, since KMS would otherwise take whatever key the ciphertext names.
	//
	// A request may name a pinned key by its bare ID in the call's region. Only the
	// five attested operations may name an alias: what others carry, such as Encrypt,
	// would be gone before the response told whose key it was.
	//
	// A response of the four attested operations with a key is refused if it is from
	// a key that is not here. With exactly one key here, a Decrypt that names none is
	// sent with that one.
	KeyIDs []string

	// UnsafeAnyKey lets requests name any KMS key and accepts responses from any;
	// KeyIDs must be empty. Whoever chooses the ciphertexts that the enclave decrypts
	// can then give it plaintexts of their own, and whoever chooses the key that it
	// encrypts with can read what it encrypts. An attested request for a full key ARN
	// must still be answered by that key.
	UnsafeAnyKey bool

	// KeyBits is the size of the recipient's RSA key: 2048, 3072 or 4096; 0 means
	// 2048. Making a key takes about 50 ms for 2048 bits and up to seconds for 4096.
	KeyBits int

	// RotateEvery is the age at which the RSA key is replaced, at least a minute; 0
	// means never. The first call that finds the key older has the next one made in
	// the background. This call, and all others until that key is ready, use the old
	// key for all their attempts. An idle client makes no keys, and there is nothing
	// to close.
	//
	// Whoever kept an envelope can open it with the key it was for. The client drops
	// an old key when the last call that uses it ends; when its memory is overwritten
	// is up to the Go runtime.
	RotateEvery time.Duration

	// Dial makes the connections to KMS: inside an enclave, the DialContext of a vsock
	// dialer. It gets "tcp" and the endpoint's host:port. Its context is not the
	// call's and ends after 30 seconds: a connection that is late for one call is
	// kept for the next. It may be called concurrently. Nil dials TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// RootCAs are the only roots accepted for the endpoint's certificate. Nil means
	// those of Amazon Trust Services (https://www.amazontrust.com/repository), which
	// certify AWS's public endpoints; an isolated partition needs its own. The pool
	// is copied.
	RootCAs *x509.CertPool

	// Hosts are exact host names or IP addresses, without port, that requests may go
	// to besides KMS's public and VPC endpoints, such as kms.eu-west-1.amazonaws.com.
	// They are for a name of your own that leads to KMS, such as a private hosted zone
	// in front of PrivateLink, and for tests. Whoever holds a certificate for such a
	// name can forge KMS's responses. Amazon's roots certify every AWS customer's
	// servers.
	//
	// cfg.BaseEndpoint sends requests there.
	Hosts []string

	// Clock is the enclave's time for RotateEvery and Error.ClockSkew; nil means
	// time.Now. TLS and the SDK's signatures use the system's clock. It may be called
	// concurrently.
	Clock func() time.Time
}
