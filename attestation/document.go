package attestation

import (
	"crypto"
	"crypto/x509"
	"slices"
	"time"
)

// Platform is what made a document.
type Platform int

// The platforms. A document of one is never accepted for the other: both have the
// same root, but their PCRs have different meanings.
const (
	// PlatformEnclave is a Nitro Enclave, whose NSM measured its image.
	PlatformEnclave Platform = iota
	// PlatformNitroTPM is a whole EC2 instance with a NitroTPM.
	PlatformNitroTPM
)

// String gives "nitro-enclave" or "nitrotpm".
func (p Platform) String() string {
	switch p {
	case PlatformEnclave:
		return "nitro-enclave"
	case PlatformNitroTPM:
		return "nitrotpm"
	}
	return "unknown platform"
}

// ImagePCRs returns the registers that together identify what the platform
// runs, which a Measurement must pin: 0, 1 and 2 for an enclave; 4, 7 and 12,
// boot manager, secure boot and kernel command line, for a NitroTPM.
func (p Platform) ImagePCRs() []int {
	switch p {
	case PlatformEnclave:
		return []int{PCRImage, PCRKernel, PCRApplication}
	case PlatformNitroTPM:
		return []int{4, 7, tpmCommandLine}
	}
	return nil
}

// Claims is what a document says.
type Claims struct {
	// ModuleID names the NSM: "i-<instance>-enc<enclave>" for an enclave.
	ModuleID string
	// Platform is PlatformEnclave unless the document has NitroTPM PCRs.
	Platform Platform
	// Timestamp is when the document was made, in UTC with milliseconds.
	Timestamp time.Time
	// PCRs holds the registers by index, 0 to 31. Test for presence: a register
	// that is not in the document is not in the map, and zero is a valid value.
	// An enclave can extend PCR16 and above until it locks them. Trust these only
	// if you trust the image.
	PCRs map[int]PCR
	// PublicKey, UserData and Nonce are what the enclave's program passed to the
	// NSM, at most MaxFieldSize bytes each; nil if nothing. The NSM signs them
	// without looking at them.
	PublicKey, UserData, Nonce []byte
	// UnknownFields names fields that this version does not know, at most
	// MaxUnknownFields; none in any document known today.
	UnknownFields []string
}

// Debug reports whether PCR0, PCR1 and PCR2 are all zero (or absent), as they
// are in an enclave that was started in debug mode. It is false for a NitroTPM
// document.
func (c *Claims) Debug() bool {
	if c.Platform != PlatformEnclave {
		return false
	}
	for i := range 3 {
		if v, ok := c.PCRs[i]; ok && !v.IsZero() {
			return false
		}
	}
	return true
}

// Document is a verified attestation document. Only [Verifier.Verify] makes one, and
// never beside an error. It shares no memory with the verifier or other documents.
type Document struct {
	Claims
	// Checked says what was checked beyond form, chain and signature.
	Checked Checked

	chain [][]byte // root first
}

// Chain returns the certificates from the NSM's own, whose key signed the document,
// up to the root. Each call parses them again, so changing them affects no later
// verification.
func (d *Document) Chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for _, der := range slices.Backward(d.chain) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil // these bytes were parsed before
		}
		chain = append(chain, c)
	}
	return chain
}

// Checked records what a successful verification compared, for logs and audits.
type Checked struct {
	// At is the time for which the document was judged.
	At time.Time
	// Historical is true if that time came from the caller's Expect.At.
	Historical bool
	// Measurement is the name of the measurement that matched; empty if it
	// has none or if any measurement was accepted.
	Measurement string
	// PCRs lists the registers that were compared, in order; empty if any
	// measurement was accepted.
	PCRs []int
	// Nonce, UserData and PublicKey tell which of these fields were compared
	// with an expected value.
	Nonce, UserData, PublicKey bool
}

// Unverified is what a document claims. Only its form is checked: anyone can make
// one that says anything.
type Unverified struct {
	Claims
	// Certificate is the DER of the certificate whose key is claimed to have
	// signed the document.
	Certificate []byte
	// CABundle holds the DER of the claimed chain, root first.
	CABundle [][]byte
}

// ParseUnverified reads a document without verifying it, for debuggers, logs and
// error messages. Do not decide by it: use [Verifier.Verify], which needs no parsing
// first. The error is an [*Error].
func ParseUnverified(raw []byte) (*Unverified, error) {
	_, p, err := parse(raw)
	if err != nil {
		return nil, named("ParseUnverified", err)
	}
	return &Unverified{Claims: p.Claims, Certificate: p.certificate, CABundle: p.cabundle}, nil
}

// parse decodes envelope and payload. What it returns shares no memory with
// raw, so that a caller who changes raw meanwhile cannot change what is judged.
func parse(raw []byte) (envelope, *payload, error) {
	if len(raw) <= MaxDocumentSize {
		raw = append([]byte(nil), raw...)
	}
	e, err := parseEnvelope(raw)
	if err != nil {
		return envelope{}, nil, err
	}
	p, err := parsePayload(e.payload)
	if err != nil {
		return envelope{}, nil, err
	}
	return e, p, nil
}

// ParsePublicKey reads PublicKey as DER of a SubjectPublicKeyInfo (RFC 5280,
// section 4.1; RSA, ECDSA, Ed25519 or X25519, as AWS KMS wants it for RSA) or
// of a PKCS #1 RSAPublicKey (RFC 8017, appendix A.1.1), and returns the key as
// crypto/x509 does. A raw key, such as 32 bytes of X25519, needs no parsing: use
// PublicKey as it is.
//
// The caller judges the key's purpose and size. The error is an [*Error] with
// [ReasonPublicKey].
func (c *Claims) ParsePublicKey() (crypto.PublicKey, error) {
	if len(c.PublicKey) == 0 {
		return nil, named("ParsePublicKey", fail(ReasonPublicKey, fieldPublicKey, "is absent"))
	}
	key, err := x509.ParsePKIXPublicKey(c.PublicKey)
	if err == nil {
		return key, nil
	}
	if rsaKey, pkcs1Err := x509.ParsePKCS1PublicKey(c.PublicKey); pkcs1Err == nil {
		return rsaKey, nil
	}
	return nil, &Error{Op: "ParsePublicKey", Reason: ReasonPublicKey, Field: fieldPublicKey, Detail: "is neither a SubjectPublicKeyInfo nor a PKCS #1 key", Err: err}
}
