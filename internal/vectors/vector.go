package vectors

import (
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// File is one file of vectors.
type File struct {
	// Subject is the file's name without ".json".
	Subject string `json:"subject"`
	// Comment says what the vectors have in common.
	Comment string `json:"comment"`
	// Roots holds the DER of the root certificates that the verifier trusts,
	// instead of AWS's, unless a vector's policy has roots of its own.
	Roots [][]byte `json:"roots"`
	// Vectors are in the order in which a verifier is best debugged.
	Vectors []Vector `json:"vectors"`
}

// Vector is one document, the circumstances in which a verifier sees it, and
// what the verifier must make of it.
type Vector struct {
	// Name is unique in its file: lower-case words, joined by hyphens.
	Name string `json:"name"`
	// Comment says in one line what is special.
	Comment string `json:"comment"`
	// Result is Accept or Reject.
	Result Result `json:"result"`
	// Reason is why, if the result is Reject.
	Reason attestation.Reason `json:"reason,omitempty"`
	// Time is what the verifier's clock shows.
	Time time.Time `json:"time"`
	// Policy is what the verifier accepts in general.
	Policy Policy `json:"policy"`
	// Expect is what it demands of this document.
	Expect Expect `json:"expect"`
	// Document is the verifier's input. It stands last because it is long.
	Document []byte `json:"document"`
}

// Result is what a verifier must make of a vector.
type Result string

// The results.
const (
	Accept Result = "accept"
	Reject Result = "reject"
)

// Policy is an attestation.Policy in JSON.
type Policy struct {
	Measurements         []Measurement `json:"measurements,omitempty"`
	UnsafeAnyMeasurement bool          `json:"unsafe_any_measurement,omitempty"`
	UnsafeAllowDebug     bool          `json:"unsafe_allow_debug,omitempty"`
	// Platform is "nitro-enclave", the default, or "nitrotpm".
	Platform string `json:"platform,omitempty"`
	// MaxAgeMillis and MaxSkewMillis are in milliseconds; absent means the
	// defaults of package attestation.
	MaxAgeMillis  int64 `json:"max_age_ms,omitempty"`
	MaxSkewMillis int64 `json:"max_skew_ms,omitempty"`
	// Roots, if present, take the place of the file's.
	Roots [][]byte `json:"roots,omitzero"`
	// RevokedSerials are serial numbers in hexadecimal, without leading zeros.
	RevokedSerials []string `json:"revoked_serials,omitempty"`
}

// Measurement is an attestation.Measurement in JSON.
type Measurement struct {
	Name string `json:"name,omitempty"`
	// PCRs are in hexadecimal, by index.
	PCRs          map[int]string `json:"pcrs,omitempty"`
	UnsafePartial bool           `json:"unsafe_partial,omitempty"`
}

// Expect is an attestation.Expect in JSON. A field that is absent is not
// compared; one that is empty must be empty or absent in the document.
type Expect struct {
	Nonce          []byte `json:"nonce,omitzero"`
	UnsafeAnyNonce bool   `json:"unsafe_any_nonce,omitempty"`
	UserData       []byte `json:"user_data,omitzero"`
	PublicKey      []byte `json:"public_key,omitzero"`
	// At is the time to judge the document at, without skew.
	At time.Time `json:"at,omitzero"`
}
