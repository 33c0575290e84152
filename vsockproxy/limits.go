package vsockproxy

import (
	"time"

	"github.com/keyvouch/keyvouch/vsockproxy/internal/rules"
)

// What the zero values of a [Proxy] stand for. DialTimeout has the Dialer's
// default, defaultDialTimeout.
const (
	DefaultMaxConns         = 1024
	defaultHandshakeTimeout = 10 * time.Second
	defaultIdleTimeout      = 5 * time.Minute
	DefaultDrainTimeout     = 5 * time.Second
)

// defaultDialTimeout bounds a dial, handshake included, where no timeout is set.
const defaultDialTimeout = 10 * time.Second

// defaultConnectTimeout takes its place for a Dialer with Connect set. It is
// longer, so that a proxy that gives up on a target after its own
// defaultDialTimeout can still say so.
const defaultConnectTimeout = defaultDialTimeout + 5*time.Second

// What the zero values of a cachingResolver stand for.
const (
	// defaultNameTTL is half of what most records of AWS's endpoints carry, so
	// that an answer, which may be used for twice as long while it is asked for
	// anew, is not used beyond their time.
	defaultNameTTL = 30 * time.Second
	// defaultNameStale is longer than most troubles of a DNS server, and shorter
	// than a day's work of a person who moves a service.
	defaultNameStale = time.Hour
	// defaultMaxNames is far more than the names of a usual allowlist.
	defaultMaxNames = 1024
)

const (
	// retryNames is how long a failed lookup, or the answer that there is no such
	// name, is not repeated. It is short, since a person may just be mending it.
	retryNames = time.Second
	// staleDelay is how long a lookup may take before an old answer is given:
	// the client response timer that RFC 8767, section 5, recommends.
	staleDelay = 1800 * time.Millisecond
	// lookupTimeout bounds a lookup, which goes on when nobody waits any more.
	lookupTimeout = 10 * time.Second
)

// maxAnswerText bounds what a proxy says beside the status of its answer, in
// bytes, and what a Dialer quotes of it.
const maxAnswerText = 256

// maxDiscard bounds what is read from a client after it was refused, in bytes.
const maxDiscard = 256 << 10

// maxAddresses bounds how many addresses of a name one connection tries, possibly
// all at once.
const maxAddresses = 8

// maxAnswer bounds how many addresses of a name are looked at or remembered.
const maxAnswer = 128

// MaxAllowlistEntries is the most entries that an [Allowlist] may have.
const MaxAllowlistEntries = rules.MaxEntries

// attemptDelay is how long an address has to answer before the next one is tried
// beside it: the Connection Attempt Delay that RFC 8305, section 5, recommends.
const attemptDelay = 250 * time.Millisecond
