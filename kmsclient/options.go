package kmsclient

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/keyvouch/keyvouch/nsm"
)

// Attester makes attestation documents. *[nsm.Session] is one.
//
// It must be safe for concurrent use if the client is used so, and should
// honour the context.
type Attester interface {
	Attest(ctx context.Context, r nsm.AttestationRequest) ([]byte, error)
}

// Options configure a client. The zero value is refused: KeyIDs is the one
// thing that cannot be guessed.
type Options struct {
	// KeyIDs are the full ARNs of the KMS keys that the client may use, such as
	// arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab.
	//
	// A request that names another is refused before it is sent: by KeyId,
	// SourceKeyId, DestinationKeyId or TargetKeyId, in any operation but those
	// that only read about a key (DescribeKey, GetKeyLastUsage, GetKeyPolicy,
	// GetKeyRotationStatus, GetPublicKey, ListAliases, ListGrants,
	// ListKeyPolicies, ListKeyRotations and ListResourceTags, which may name
	// any). Operations that name no key, such as CreateKey, GenerateRandom and
	// DeleteAlias, are free too. A request may also name a pinned key by its
	// bare ID, if the key is in the call's region. With an alias, only the
	// five attested operations are sent; all others, such as Encrypt, are
	// refused, since what they carry would be gone before the answer told whose
	// key it was. ReEncrypt must name its SourceKeyId: KMS would else take
	// whatever key the ciphertext names.
	//
	// An answer of the four attested operations that are with a key (all but
	// GenerateRandom) is refused if it is from a key that isn't here. With
	// exactly one key here, a Decrypt that names none is sent with that one.
	//
	// Aliases and bare key IDs are refused here: whoever has kms:UpdateAlias
	// can point an alias to a key of theirs, and a bare ID doesn't say in whose
	// account it is.
	KeyIDs []string

	// UnsafeAnyKey lets requests name any KMS key and accepts answers from any.
	// Whoever can choose the ciphertexts that the enclave decrypts can then
	// give it plaintexts of their own, from a key of their own, and whoever can
	// choose the key that it encrypts with can read what it encrypts. KeyIDs
	// must be empty.
	//
	// What stays: an attested request for one key by its full ARN must be
	// answered by that key.
	UnsafeAnyKey bool

	// KeyBits is the size of the recipient's RSA key, 2048, 3072 or 4096; 0 is
	// 2048. Making a key of 2048 bits takes about 50 ms, and one of 4096 bits
	// up to seconds.
	KeyBits int

	// RotateEvery is how old the RSA key may grow, at least a minute; 0 is for
	// ever. The first call that finds it older has the next one made in the
	// background, and doesn't wait: it and all calls until that one is ready
	// have the old key, to their end, however often they are tried. So a client
	// that isn't used makes no keys, and its key can be older than this by as
	// long as it isn't used. There is nothing to close.
	//
	// Whoever kept an envelope can open it with the key it was for. After a
	// rotation, and the calls that began before it, the old key is no longer
	// held; when its memory is overwritten is up to the Go runtime.
	RotateEvery time.Duration

	// Dial makes the connections to KMS: the DialContext of a vsock dialer
	// inside an enclave. It gets "tcp" and the endpoint's host:port, and what
	// it returns is used for TLS with that host. Its context isn't the call's,
	// but ends after 30 seconds: a connection that comes too late for one call
	// is kept for the next. It may be called concurrently. Nil dials TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// RootCAs are the only roots that the endpoint's certificate may lead to.
	// Nil is the roots of Amazon Trust Services, which certify AWS's public
	// endpoints (https://www.amazontrust.com/repository); an isolated partition
	// needs its own. New takes a copy.
	RootCAs *x509.CertPool

	// Hosts are exact host names or IP addresses, without port, that requests
	// may go to besides KMS's own names, which are those of its public and VPC
	// endpoints, such as kms.eu-west-1.amazonaws.com. It is for a name of your
	// own that leads to KMS, as with a private hosted zone in front of
	// PrivateLink, and for stand-ins in tests. Whoever holds a certificate for
	// such a name, under RootCAs or else Amazon's roots, which certify every AWS
	// customer's servers, can forge KMS's answers.
	//
	// To send requests there is the endpoint's part (cfg.BaseEndpoint).
	Hosts []string

	// Clock is the enclave's time, for RotateEvery and Error.ClockSkew. If nil, time.Now. TLS
	// and the SDK's signatures go by the system's clock in any case. It may be
	// called concurrently.
	Clock func() time.Time
}
