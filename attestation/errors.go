package attestation

import (
	"fmt"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Reason names the rule that a document, a policy or an expectation broke. The
// strings are stable.
type Reason string

// Error returns the Reason's string. errors.Is(err, ReasonNonce) asks for it.
func (r Reason) Error() string { return string(r) }

// Reasons about the envelope, the COSE_Sign1 structure around the payload
// (RFC 9052, section 4.2).
const (
	// ReasonDocumentSize: the input is empty or larger than MaxDocumentSize.
	ReasonDocumentSize Reason = "document-size"
	// ReasonMalformedCBOR: truncated CBOR, an integer or length that is not in
	// its shortest form, a reserved value, or an indefinite length anywhere
	// but the payload map.
	ReasonMalformedCBOR Reason = "malformed-cbor"
	// ReasonTrailingBytes: bytes follow a complete item, outside or inside.
	ReasonTrailingBytes Reason = "trailing-bytes"
	// ReasonNotSign1: not an untagged or 18-tagged array of four elements of
	// the types COSE_Sign1 has.
	ReasonNotSign1 Reason = "not-cose-sign1"
	// ReasonAlgorithm: the protected header is not exactly {1: -35}, ES384.
	ReasonAlgorithm Reason = "algorithm"
	// ReasonUnprotectedHeader: the unprotected header is not empty.
	ReasonUnprotectedHeader Reason = "unprotected-header"
	// ReasonPayloadSize: the payload is empty or larger than MaxPayloadSize.
	ReasonPayloadSize Reason = "payload-size"
	// ReasonSignatureSize: the signature is not 96 bytes.
	ReasonSignatureSize Reason = "signature-size"
	// ReasonSignature: the signature does not verify with the certificate's key.
	ReasonSignature Reason = "signature"
)

// Reasons about the payload, the attestation document itself.
const (
	// ReasonFieldType: a field has another CBOR type than it must have.
	ReasonFieldType Reason = "field-type"
	// ReasonFieldMissing: a mandatory field is absent or null.
	ReasonFieldMissing Reason = "field-missing"
	// ReasonFieldDuplicate: a key occurs twice, or twice but for its case.
	ReasonFieldDuplicate Reason = "field-duplicate"
	// ReasonFieldSize: a field is shorter or longer than allowed.
	ReasonFieldSize Reason = "field-size"
	// ReasonFieldUnknown: more unknown fields than MaxUnknownFields, or one
	// that differs from a known field only by case.
	ReasonFieldUnknown Reason = "field-unknown"
	// ReasonDigest: the digest is not "SHA384".
	ReasonDigest Reason = "digest"
	// ReasonTimestamp: the timestamp cannot be milliseconds since 1970.
	ReasonTimestamp Reason = "timestamp"
	// ReasonPCRs: no PCRs, too many, an index over 31, or a value that is not
	// 48 bytes; or both enclave and NitroTPM PCRs in one document.
	ReasonPCRs Reason = "pcrs"
)

// Reasons about the certificates.
const (
	// ReasonCABundle: the CA bundle is empty, longer than MaxCABundle, or
	// holds a certificate twice.
	ReasonCABundle Reason = "ca-bundle"
	// ReasonUntrustedRoot: the first certificate of the bundle is not, byte
	// for byte, a root that the verifier trusts.
	ReasonUntrustedRoot Reason = "untrusted-root"
	// ReasonCertificateMalformed: a certificate is not an X.509 v3 certificate.
	ReasonCertificateMalformed Reason = "certificate-malformed"
	// ReasonCertificateAlgorithm: a key that is not P-384 or a signature
	// algorithm that is not ECDSA with SHA-384.
	ReasonCertificateAlgorithm Reason = "certificate-algorithm"
	// ReasonCertificateUsage: basic constraints, path length or key usage
	// do not allow the certificate's place in the chain.
	ReasonCertificateUsage Reason = "certificate-usage"
	// ReasonCertificateExtension: a critical extension that is not understood.
	ReasonCertificateExtension Reason = "certificate-extension"
	// ReasonCertificateIssuer: the names or key identifiers of a certificate
	// and the one above it do not match: wrong order or a foreign certificate.
	ReasonCertificateIssuer Reason = "certificate-issuer"
	// ReasonCertificateSignature: not signed by the certificate above it.
	ReasonCertificateSignature Reason = "certificate-signature"
	// ReasonCertificateExpired: past its end at the time of verification.
	ReasonCertificateExpired Reason = "certificate-expired"
	// ReasonCertificateNotYetValid: before its start at that time.
	ReasonCertificateNotYetValid Reason = "certificate-not-yet-valid"
	// ReasonCertificateRevoked: the policy's Revoked says so.
	ReasonCertificateRevoked Reason = "certificate-revoked"
)

// Reasons about what the caller demands of an authentic document.
const (
	// ReasonPlatform: a NitroTPM document where an enclave's is demanded, or
	// the reverse.
	ReasonPlatform Reason = "platform"
	// ReasonDebugMode: PCR0, PCR1 and PCR2 are all zero: the enclave was
	// started in debug mode, where its parent reads its console.
	ReasonDebugMode Reason = "debug-mode"
	// ReasonMeasurement: no accepted measurement matches the PCRs.
	ReasonMeasurement Reason = "measurement"
	// ReasonNonce: the nonce is absent or not the expected one.
	ReasonNonce Reason = "nonce"
	// ReasonUserData: the user data is not the expected one.
	ReasonUserData Reason = "user-data"
	// ReasonPublicKey: the public key is not the expected one.
	ReasonPublicKey Reason = "public-key"
	// ReasonTooOld: the document is older than the policy's MaxAge.
	ReasonTooOld Reason = "too-old"
	// ReasonFromFuture: the document is dated after the verifier's clock.
	ReasonFromFuture Reason = "from-the-future"
)

// Reasons that are the caller's own mistakes.
const (
	// ReasonInvalidPolicy: NewVerifier was given a policy that cannot be meant.
	ReasonInvalidPolicy Reason = "invalid-policy"
	// ReasonInvalidExpectation: Verify was given an Expect that cannot be meant.
	ReasonInvalidExpectation Reason = "invalid-expectation"
)

// Error is the error of every function of this package.
//
// Detail quotes and shortens what it shows of a document, which is not to be trusted.
type Error struct {
	// Op is the function or method that failed, such as "Verify".
	Op string
	// Reason names the rule that was broken.
	Reason Reason
	// Field is the place: a field of the document ("pcrs[0]", "cabundle[2]"),
	// or of the policy or expectation. Empty if it is the whole.
	Field string
	// Detail says what was seen, what was expected and, if there is one, the remedy.
	Detail string
	// Err is the underlying error, or nil.
	Err error
}

// Error returns one line: "attestation: Op: reason: field: detail: cause".
func (e *Error) Error() string {
	return errtext.Join("attestation", e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
}

// Is reports whether target is the error's [Reason].
func (e *Error) Is(target error) bool {
	r, ok := target.(Reason)
	return ok && r == e.Reason
}

// Unwrap returns the underlying error, or nil.
func (e *Error) Unwrap() error { return e.Err }

func fail(reason Reason, field, format string, args ...any) *Error {
	return &Error{Reason: reason, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// in names the place of an error that was made without knowing it, so that
// names are put together for errors only.
func in(field string, err error) error {
	if e, ok := err.(*Error); ok && e.Field == "" {
		e.Field = field
	}
	return err
}

// named puts the operation into an error that was made without knowing it.
func named(op string, err error) error {
	if e, ok := err.(*Error); ok && e.Op == "" {
		e.Op = op
	}
	return err
}
