package eif

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/internal/errtext"
)

// Signature is an image's signature over its PCR0.
//
// It is verified with the certificate beside it in the file, which anyone can make, with
// any name. It proves that the image and the certificate belong together, and not who
// signed. Compare the certificate, or PCR8, which is made from it, with the one you
// expect.
type Signature struct {
	// Certificate is the signing certificate. Neither its issuer nor its validity
	// was checked; nitro-cli refuses to run an image whose certificate has
	// expired.
	Certificate *x509.Certificate
	// Algorithm is the COSE algorithm: "ES256", "ES384" or "ES512".
	Algorithm string
}

// algorithmOf is the only COSE algorithm for signatures with the key (RFC 9053,
// section 2.1 would allow any pair; AWS's tools sign with these).
func algorithmOf(key any) (cose.Algorithm, *ecdsa.PublicKey, error) {
	public, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return 0, nil, fmt.Errorf("its key is of type %T, not ECDSA on P-256, P-384 or P-521", key)
	}
	switch public.Curve {
	case elliptic.P256():
		return cose.AlgorithmES256, public, nil
	case elliptic.P384():
		return cose.AlgorithmES384, public, nil
	case elliptic.P521():
		return cose.AlgorithmES512, public, nil
	}
	return 0, nil, fmt.Errorf("its key is on %s, not on P-256, P-384 or P-521", public.Curve.Params().Name)
}

// octets is a byte string in the form of AWS's builder: a CBOR array with a
// small integer for each byte.
type octets []byte

const (
	cborArray = 4
	cborMajor = 5 // how far the major type is shifted in an item's first byte
)

func (o *octets) UnmarshalCBOR(data []byte) error {
	if data[0]>>cborMajor != cborArray {
		return errors.New("is not an array of integers")
	}
	return strictCBOR.Unmarshal(data, (*[]byte)(o))
}

// MarshalCBOR writes each byte as an integer in its shortest form.
func (o octets) MarshalCBOR() ([]byte, error) {
	numbers := make([]uint16, len(o)) // a slice of bytes would become a byte string
	for i, b := range o {
		numbers[i] = uint16(b)
	}
	return cbor.Marshal(numbers)
}

// signatureEntry is an element of the signature section's array.
type signatureEntry struct {
	Certificate octets `cbor:"signing_certificate"` // PEM
	Signature   octets `cbor:"signature"`           // COSE_Sign1, untagged
}

// signedRegister is the payload of the COSE_Sign1.
type signedRegister struct {
	Index int    `cbor:"register_index"`
	Value octets `cbor:"register_value"`
}

var strictCBOR = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  MaxSignatureSize,
	}.DecMode()
	if err != nil {
		panic(err) // the options are constant
	}
	return mode
}()

// verifySignature verifies a signature section: it must sign pcr0 with the key
// of the certificate it carries, in exactly the form that AWS's builder writes.
// place and offset are the section's.
func verifySignature(section []byte, pcr0 attestation.PCR, place string, offset int64) (*Signature, error) {
	reject := func(reason Reason, err error, format string, args ...any) error {
		return failWith(err, reason, place, offset, format, args...)
	}
	var entries []signatureEntry
	if err := strictCBOR.Unmarshal(section, &entries); err != nil {
		return nil, reject(ReasonSignatureMalformed, err, "is not a CBOR array of maps with signing_certificate and signature")
	}
	if len(entries) != 1 {
		return nil, reject(ReasonSignatureMalformed, nil, "holds %d signatures, not one: only the first would count", len(entries))
	}
	// So that no other writing of the same, and nothing hidden in it, passes.
	if again, err := cbor.Marshal(entries); err != nil || !bytes.Equal(again, section) {
		return nil, reject(ReasonSignatureMalformed, err, "is not in the shortest form of CBOR with its members in order")
	}

	certificate, err := parseCertificate(entries[0].Certificate)
	if err != nil {
		return nil, reject(ReasonSignatureCertificate, err, "signing_certificate")
	}
	algorithm, key, err := algorithmOf(certificate.PublicKey)
	if err != nil {
		return nil, reject(ReasonSignatureCertificate, err, "signing_certificate")
	}

	var message cose.UntaggedSign1Message
	if err := message.UnmarshalCBOR(entries[0].Signature); err != nil {
		return nil, reject(ReasonSignatureMalformed, err, "its signature is no untagged COSE_Sign1")
	}
	switch named, err := message.Headers.Protected.Algorithm(); {
	case err != nil:
		return nil, reject(ReasonSignatureAlgorithm, err, "the protected header names no algorithm")
	case named != algorithm:
		return nil, reject(ReasonSignatureAlgorithm, nil, "is %v, but the certificate's key is one for %v", named, algorithm)
	case len(message.Headers.Protected) != 1 || len(message.Headers.Unprotected) != 0:
		return nil, reject(ReasonSignatureMalformed, nil, "its headers hold more than the algorithm")
	}
	if again, err := message.MarshalCBOR(); err != nil || !bytes.Equal(again, entries[0].Signature) {
		return nil, reject(ReasonSignatureMalformed, err, "its COSE_Sign1 is not in the shortest form of CBOR")
	}
	if want, err := signedPCR0(pcr0); err != nil || !bytes.Equal(message.Payload, want) {
		return nil, reject(ReasonSignaturePayload, err, "what was signed is not this image's PCR0, %x…: the image was altered after it was signed", pcr0[:8])
	}
	verifier, err := cose.NewVerifier(algorithm, key)
	if err != nil {
		return nil, reject(ReasonSignatureCertificate, err, "signing_certificate")
	}
	if err := message.Verify(nil, verifier); err != nil {
		return nil, reject(ReasonSignature, err, "does not verify with the key of the certificate beside it")
	}
	return &Signature{Certificate: certificate, Algorithm: algorithm.String()}, nil
}

// signedPCR0 is the payload that a signature must have.
func signedPCR0(pcr0 attestation.PCR) ([]byte, error) {
	return cbor.Marshal(signedRegister{Index: attestation.PCRImage, Value: pcr0[:]})
}

// parseCertificate takes the first certificate of a PEM text, as AWS's tools do.
// Whatever follows is not looked at, there or here.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	begin := []byte("-----BEGIN ")
	start := bytes.Index(text, begin)
	switch {
	case start < 0:
		return nil, errors.New("is not PEM")
	// OpenSSL, and so AWS's tools, would pass over it and measure the next.
	case start > 0 && text[start-1] != '\n':
		return nil, errors.New("is PEM that begins within a line")
	}
	text = text[start:]
	block, rest := pem.Decode(text)
	switch {
	// Go's decoder passes over damaged blocks, another may not.
	case block == nil || bytes.Count(text[:len(text)-len(rest)], begin) != 1:
		return nil, errors.New("is damaged PEM")
	case block.Type != "CERTIFICATE" || len(block.Headers) != 0:
		return nil, fmt.Errorf("is PEM of type %s, not a plain CERTIFICATE", errtext.Quote(block.Type))
	}
	return x509.ParseCertificate(block.Bytes)
}

// Signer signs an image.
type Signer struct {
	// Key is the private key: ECDSA on P-256, P-384 or P-521. With an
	// *ecdsa.PrivateKey the signature is deterministic (RFC 6979), so that the
	// same contents make the same file; others, such as keys in KMS, sign as they
	// do.
	Key crypto.Signer
	// Certificate is the certificate of that key. PCR8 is made of it.
	Certificate *x509.Certificate
}

// algorithm checks that the two belong together.
func (s *Signer) algorithm() (cose.Algorithm, error) {
	if s.Key == nil || s.Certificate == nil {
		return 0, errors.New("lacks its Key or its Certificate")
	}
	algorithm, certified, err := algorithmOf(s.Certificate.PublicKey)
	if err != nil {
		return 0, fmt.Errorf("its Certificate cannot be used: %w", err)
	}
	if public, ok := s.Key.Public().(*ecdsa.PublicKey); !ok || !public.Equal(certified) {
		return 0, errors.New("its Certificate is not of its Key")
	}
	return algorithm, nil
}

// sign makes the signature section.
func (s *Signer) sign(pcr0 attestation.PCR) ([]byte, error) {
	algorithm, err := s.algorithm()
	if err != nil {
		return nil, err
	}
	payload, err := signedPCR0(pcr0)
	if err != nil {
		return nil, err
	}
	signer, err := cose.NewSigner(algorithm, hashSigner{s.Key, hashOf[algorithm]})
	if err != nil {
		return nil, err
	}
	headers := cose.Headers{Protected: cose.ProtectedHeader{cose.HeaderLabelAlgorithm: algorithm}}
	message, err := cose.Sign1Untagged(rand.Reader, signer, headers, payload, nil)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate.Raw})
	return cbor.Marshal([]signatureEntry{{certificate, message}})
}

// hashOf is the hash of each algorithm (RFC 9053, section 2.1).
var hashOf = map[cose.Algorithm]crypto.Hash{
	cose.AlgorithmES256: crypto.SHA256, cose.AlgorithmES384: crypto.SHA384, cose.AlgorithmES512: crypto.SHA512,
}

// hashSigner tells the key what hash it signs, which go-cose does not and which
// deterministic signatures and keys elsewhere need to know.
type hashSigner struct {
	crypto.Signer
	hash crypto.Hash
}

func (s hashSigner) Sign(random io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	if _, ok := s.Signer.(*ecdsa.PrivateKey); ok {
		random = nil // asks for RFC 6979
	}
	return s.Signer.Sign(random, digest, s.hash)
}
