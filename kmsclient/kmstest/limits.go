package kmstest

import "time"

const (
	// MaxRequestBody is the longest request body the server reads, in bytes. A
	// request with the largest attestation document has some 350,000.
	MaxRequestBody = 1 << 20
	// MaxPolicySize is the longest key policy that [ParsePolicy] reads, in bytes
	// (KMS Developer Guide, "Resource quotas").
	MaxPolicySize = 32768
	// MaxRecordedRequests is how many requests [Server.Requests] remembers: the
	// last ones.
	MaxRecordedRequests = 1024
)

// Lengths in KMS's service model, in bytes.
const (
	maxBlobLength       = 6144   // CiphertextType
	maxPlaintextLength  = 4096   // PlaintextType
	maxPublicKeyLength  = 8192   // PublicKeyType
	maxNumberOfBytes    = 1024   // NumberOfBytesType
	maxDocumentLength   = 262144 // RecipientInfo.AttestationDocument
	maxEnvelopeLength   = 6144   // CiphertextForRecipient
	maxKeyIDLength      = 2048   // KeyIdType
	maxGrantTokenLength = 8192   // GrantTokenType
	maxGrantTokens      = 10     // GrantTokenList, in tokens
)

const (
	// maxContextLength bounds an encryption context, all names and values
	// together, in bytes (KMS Developer Guide, "Encryption context").
	maxContextLength = 8192
	// maxDocumentAge is the life of the certificate that signs a document. KMS
	// states no other limit.
	maxDocumentAge = 3 * time.Hour
	// maxJSONDepth bounds the nesting of a request body and of a key policy. The
	// deepest real one, a policy, has five levels.
	maxJSONDepth = 16
	// maxHeader bounds a request's header, in bytes.
	maxHeader = 64 << 10
	// writeTimeout bounds sending a response. Making an RSA_4096 key pair takes
	// seconds of it.
	writeTimeout = time.Minute
)
