package kmsclient

import "time"

// MaxDocumentSize is the largest attestation document that KMS accepts, in bytes
// (RecipientInfo in the KMS API reference).
const MaxDocumentSize = 262144

const (
	// defaultKeyBits is the size of the recipient's key if Options.KeyBits is 0.
	defaultKeyBits = 2048

	// minRotateEvery is about a thousand times what it takes to make a key. A
	// shorter time is a number that lacks its unit.
	minRotateEvery = time.Minute

	// credentialsWindow is how long before they expire the role's credentials are
	// replaced. The parent has new ones at least five minutes before (EC2 User
	// Guide, "Retrieve security credentials from instance metadata").
	credentialsWindow = 5 * time.Minute

	// tolerableSkew is how far a clock may be off before an error mentions it. The
	// Date header has whole seconds.
	tolerableSkew = 5 * time.Second

	// maxQuotedID bounds how much of a key's or a host's name an error repeats, in
	// characters. A key ARN has about 75.
	maxQuotedID = 300
)

// The bounds of an attempt and its response are in internal/channel:
//
//   - 30 seconds from dialing to the last byte;
//   - 4 MiB of body;
//   - 64 KiB of header.
//
// KMS and the SDK have these besides: a document lives three hours at most, and an
// operation of the instance metadata service takes five seconds at most.
