package attestation

import (
	"time"

	"github.com/keyvouch/keyvouch/internal/es384"
)

// Sizes in bytes and counts. Those of the payload are AWS's, from
// attestation_process.md in aws-nitro-enclaves-nsm-api; where real documents
// exceed that text (user data and nonce) the NSM's own limit counts.
const (
	// MaxDocumentSize bounds the input of Verify: the payload, and room for
	// the headers and the signature around it.
	MaxDocumentSize = MaxPayloadSize + 256
	// MaxPayloadSize bounds the COSE payload.
	MaxPayloadSize = 16384
	// MaxFieldSize bounds user_data, nonce and public_key each.
	MaxFieldSize = 1024
	// MaxCertificateSize bounds each certificate's DER.
	MaxCertificateSize = 1024
	// MaxCABundle bounds the number of CA certificates: a root and at most
	// five below it (AWS sends four in all).
	MaxCABundle = 6
	// MaxPCRs bounds the number of PCRs.
	MaxPCRs = 32
	// MaxModuleIDSize bounds module_id.
	MaxModuleIDSize = 256
	// MaxUnknownFields bounds the fields that this version does not know.
	MaxUnknownFields = 8

	// MaxCacheEntries bounds the certificates that a Verifier remembers, of some
	// 4 KB each in memory.
	MaxCacheEntries = 2048

	// maxNameSize bounds the name of a field.
	maxNameSize = 64
	// maxSkipDepth bounds how deep the value of an unknown field may nest.
	maxSkipDepth = 4

	// SignatureSize is the size of an ES384 signature, r and s of 48 bytes
	// each (RFC 9053, section 2.1).
	SignatureSize = es384.SignatureSize
)

// Defaults of a Policy.
const (
	// DefaultMaxAge bounds a document's age.
	DefaultMaxAge = 5 * time.Minute
	// DefaultMaxSkew is how far the verifier's clock may be behind AWS's.
	DefaultMaxSkew = time.Minute

	// maxMaxSkew bounds Policy.MaxSkew: a clock that is further off is wrong.
	maxMaxSkew = time.Hour
)

// MaxMeasurementSize bounds the JSON of a measurement in bytes. nitro-cli prints some
// 500, and with an image's metadata some 10,000.
const MaxMeasurementSize = 1 << 20
