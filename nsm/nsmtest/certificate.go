package nsmtest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// The templates copy the shape of certificates in real documents: names,
// validity, extensions and serial numbers.

const (
	region   = "us-east-1"
	rootName = "aws.nitro-enclaves"
	day      = 24 * time.Hour
)

func rootTemplate(now time.Time) *x509.Certificate {
	// A year old, so that tests may set their clocks back.
	notBefore := seconds(now).AddDate(-1, 0, 0)
	return &x509.Certificate{
		SerialNumber:          randomSerial(16),
		Subject:               pkix.Name{Country: []string{"US"}, Organization: []string{"Amazon"}, OrganizationalUnit: []string{"AWS"}, CommonName: rootName},
		NotBefore:             notBefore,
		NotAfter:              notBefore.AddDate(30, 0, 0).Add(time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true, // without a path length
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func regionalTemplate(now time.Time) *x509.Certificate {
	notBefore := seconds(now).Add(-4 * day)
	return &x509.Certificate{
		SerialNumber: randomSerial(16),
		Subject: pkix.Name{
			Country: []string{"US"}, Organization: []string{"Amazon"}, OrganizationalUnit: []string{"AWS"},
			CommonName: randomHex(8) + "." + region + "." + rootName,
		},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(20*day + time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            2,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		CRLDistributionPoints: []string{"http://aws-nitro-enclaves-crl.example.invalid/crl/" + randomUUID() + ".crl"},
	}
}

func zonalTemplate(now time.Time) *x509.Certificate {
	notBefore := seconds(now).Add(-6 * time.Hour)
	return &x509.Certificate{
		SerialNumber: randomSerial(16),
		Subject: pkix.Name{
			Country: []string{"US"}, Organization: []string{"Amazon"}, OrganizationalUnit: []string{"AWS"},
			Province: []string{"WA"}, Locality: []string{"Seattle"},
			CommonName: randomHex(8) + ".zonal." + region + "." + rootName,
		},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(6*day - 3*time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		CRLDistributionPoints: []string{"http://crl-" + region + "-aws-nitro-enclaves.example.invalid/crl/" + randomUUID() + ".crl"},
	}
}

func instanceTemplate(now time.Time, instanceID string) *x509.Certificate {
	notBefore := seconds(now).Add(-25 * time.Minute)
	return &x509.Certificate{
		SerialNumber: randomSerial(20),
		Subject: pkix.Name{
			Country: []string{"US"}, Province: []string{"Washington"}, Locality: []string{"Seattle"},
			Organization: []string{"Amazon"}, OrganizationalUnit: []string{"AWS"},
			CommonName: instanceID + "." + region + "." + rootName,
		},
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(day),
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}

func leafTemplate(now time.Time, moduleID string) *x509.Certificate {
	issued := seconds(now)
	// The serial number is the enclave's ID and the time of issue.
	serial := make([]byte, 0, 16)
	if _, enclave, _ := strings.Cut(moduleID, "-enc"); len(enclave) == 16 {
		serial, _ = hex.AppendDecode(serial, []byte(enclave))
	}
	if len(serial) != 8 {
		serial = randomSerial(8).FillBytes(make([]byte, 8))
	}
	serial = binary.BigEndian.AppendUint64(serial, uint64(issued.Unix()))
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject: pkix.Name{
			Country: []string{"US"}, Province: []string{"Washington"}, Locality: []string{"Seattle"},
			Organization: []string{"Amazon"}, OrganizationalUnit: []string{"AWS"},
			CommonName: moduleID + "." + region + ".aws",
		},
		NotBefore:             issued.Add(-3 * time.Second),
		NotAfter:              issued.Add(3 * time.Hour),
		BasicConstraintsValid: true, // CA:FALSE
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
	}
}

// issue makes a certificate of a template, after EditCertificate had its turn.
// Without an issuer it is self-signed.
func (p *PKI) issue(level Level, template *x509.Certificate, issuer *authority) (*authority, error) {
	fail := func(err error) error {
		return &Error{Op: "NewPKI", Reason: ReasonCertificate, Detail: fmt.Sprintf("making the %s certificate", level), Err: err}
	}
	key, err := p.generateKey(level)
	if err != nil {
		return nil, fail(err)
	}
	a := &authority{key: key, issuer: issuer, notBefore: template.NotBefore, notAfter: template.NotAfter}
	signer := key
	if issuer != nil {
		signer = issuer.key
	}
	if _, ok := signer.(*ecdsa.PrivateKey); ok {
		template.SignatureAlgorithm = x509.ECDSAWithSHA384
	}
	if template.IsCA {
		if template.SubjectKeyId, err = keyID(key.Public()); err != nil {
			return nil, fail(err)
		}
	}
	if p.opts.EditCertificate != nil {
		p.opts.EditCertificate(level, template)
	}
	if level == LevelLeaf {
		makeKeyUsageUncritical(template)
	}
	if len(template.RawSubject) == 0 {
		if template.RawSubject, err = subjectDER(level, template.Subject); err != nil {
			return nil, fail(err)
		}
	}
	// A hook may keep the template, or give the same bytes to several.
	a.subject, a.keyID = bytes.Clone(template.RawSubject), bytes.Clone(template.SubjectKeyId)

	parent := template
	if issuer != nil {
		parent = &x509.Certificate{RawSubject: issuer.subject, PublicKey: issuer.key.Public()}
		if level != LevelLeaf { // AWS's leaves have no authority key identifier
			parent.SubjectKeyId = issuer.keyID
		}
	}
	if a.der, err = x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer); err != nil {
		return nil, fail(err)
	}
	return a, nil
}

// keyID is a subject key identifier: 20 bytes of a SHA-256 (RFC 7093, section
// 2, method 1).
func keyID(public any) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &parsed); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(parsed.Key.Bytes)
	return sum[:20], nil
}

var oidKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 15}

// makeKeyUsageUncritical writes the key usage as an extension of its own,
// because crypto/x509 marks it critical and AWS's leaves do not.
func makeKeyUsageUncritical(template *x509.Certificate) {
	if template.KeyUsage == 0 || slices.ContainsFunc(template.ExtraExtensions, func(e pkix.Extension) bool { return e.Id.Equal(oidKeyUsage) }) {
		return
	}
	// Bit 0 of a BIT STRING is the first one's highest.
	var octets [2]byte
	length := 0
	for bit := range 9 {
		if template.KeyUsage&(1<<bit) != 0 {
			octets[bit/8] |= 0x80 >> (bit % 8)
			length = bit + 1
		}
	}
	value, err := asn1.Marshal(asn1.BitString{Bytes: octets[:(length+7)/8], BitLength: length})
	if err != nil {
		return // nine bits always marshal; if not, the usage stays critical
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidKeyUsage, Value: value})
}

var (
	oidCountry      = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidProvince     = asn1.ObjectIdentifier{2, 5, 4, 8}
	oidLocality     = asn1.ObjectIdentifier{2, 5, 4, 7}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// subjectDER encodes a name as AWS does: UTF8String but for the country, and
// in another order in zonal certificates. So the root's subject equals AWS's
// byte for byte, and a verifier that trusts names is found out.
func subjectDER(level Level, name pkix.Name) ([]byte, error) {
	if len(name.ExtraNames) > 0 {
		return asn1.Marshal(name.ToRDNSequence())
	}
	order := []asn1.ObjectIdentifier{oidCountry, oidProvince, oidLocality, oidOrganization, oidUnit, oidCommonName}
	if level == LevelZonal {
		order = []asn1.ObjectIdentifier{oidCommonName, oidUnit, oidOrganization, oidCountry, oidProvince, oidLocality}
	}
	var commonName []string
	if name.CommonName != "" {
		commonName = []string{name.CommonName}
	}
	values := map[string][]string{
		oidCountry.String(): name.Country, oidProvince.String(): name.Province, oidLocality.String(): name.Locality,
		oidOrganization.String(): name.Organization, oidUnit.String(): name.OrganizationalUnit, oidCommonName.String(): commonName,
	}
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	type attributeSET []attribute // the suffix makes asn1 write a SET
	sequence := []attributeSET{}
	for _, oid := range order {
		tag := asn1.TagUTF8String
		if oid.Equal(oidCountry) {
			tag = asn1.TagPrintableString
		}
		for _, value := range values[oid.String()] {
			sequence = append(sequence, attributeSET{{oid, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}})
		}
	}
	return asn1.Marshal(sequence)
}

// seconds drops what a certificate cannot express.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// randomSerial returns a positive number of exactly size bytes.
func randomSerial(size int) *big.Int {
	b := make([]byte, size)
	rand.Read(b)
	b[0] |= 1
	return new(big.Int).SetBytes(b)
}

func randomHex(size int) string {
	b := make([]byte, size)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func randomUUID() string {
	return string(bytes.Join([][]byte{
		[]byte(randomHex(4)), []byte(randomHex(2)), []byte(randomHex(2)), []byte(randomHex(2)), []byte(randomHex(6)),
	}, []byte("-")))
}
