package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

const measureSynopsis = `[--json] FILE

Prints the PCRs of an enclave image file (EIF), which its enclaves' documents
will have, and what else the file says. --json prints what nitro-cli describe-eif
prints, and the command line; verify and policy take it as --measurement.`

func (p *program) measure(args []string) error {
	set := flagSet("measure")
	asJSON := set.Bool("json", false, "print JSON")
	if err := p.parse(set, measureSynopsis, args, 1); err != nil {
		return err
	}
	name := set.Arg(0)
	image, err := p.image(name)
	if err != nil {
		return p.reject(name, "no enclave image", err, *asJSON)
	}
	if *asJSON {
		return p.writeJSON(describeImage(image))
	}
	var t text
	writeImage(&t, image, time.Now())
	return p.writeText(&t)
}

// image reads the image in FILE.
func (p *program) image(name string) (*eif.Image, error) {
	if name == "-" {
		return readImage(inputName(name), p.stdin)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, pathless(err))
	}
	defer file.Close()
	return readImage(name, file)
}

func readImage(name string, r io.Reader) (*eif.Image, error) {
	image, err := eif.Read(r)
	if e, ok := errors.AsType[*eif.Error](err); ok && e.Reason == eif.ReasonRead {
		return nil, fmt.Errorf("%s: %w", name, pathless(e.Err))
	}
	return image, err
}

// imageMeasurement measures an image for --eif.
func imageMeasurement(name string) (attestation.Measurement, error) {
	file, err := os.Open(name)
	if err != nil {
		return attestation.Measurement{}, fmt.Errorf("%s: %w", name, pathless(err))
	}
	defer file.Close()
	r := bufio.NewReader(file)
	if begins(r, "{") {
		return attestation.Measurement{}, fmt.Errorf("%s: is no enclave image, but looks like JSON; give what nitro-cli printed with --measurement", name)
	}
	image, err := readImage(name, r)
	if e, ok := errors.AsType[*eif.Error](err); ok {
		return attestation.Measurement{}, fmt.Errorf("%s: no enclave image: %s", name, withReason(e))
	}
	if err != nil {
		return attestation.Measurement{}, err
	}
	return image.Measurement(), nil
}

// imageDescription is what nitro-cli describe-eif prints (EifDescribeInfo in
// aws-nitro-enclaves-cli), and at the end what it leaves out.
type imageDescription struct {
	EifVersion         uint16
	Measurements       map[string]string
	IsSigned           bool
	SigningCertificate *signingCertificate `json:",omitempty"`
	CheckCRC           bool
	SignatureCheck     *bool          `json:",omitempty"`
	ImageName          *string        `json:",omitempty"`
	ImageVersion       *string        `json:",omitempty"`
	Metadata           map[string]any `json:",omitempty"`
	Architecture       string
	Cmdline            string
}

// signingCertificate has the names and forms of OpenSSL, as there.
type signingCertificate struct {
	IssuerName map[string]string
	Algorithm  string
	NotBefore  string
	NotAfter   string
	Signature  string
}

func describeImage(image *eif.Image) *imageDescription {
	d := &imageDescription{
		EifVersion:   image.Version,
		Measurements: map[string]string{"HashAlgorithm": "Sha384 { ... }"},
		CheckCRC:     true, // or there would be no image
		Architecture: image.Architecture.String(),
		Cmdline:      image.Cmdline,
	}
	for index, pcr := range image.PCRs {
		d.Measurements[fmt.Sprintf("PCR%d", index)] = pcr.String()
	}
	if s := image.Signature; s != nil {
		d.IsSigned = true
		d.SignatureCheck = &d.IsSigned
		d.SigningCertificate = describeSigner(s.Certificate)
	}
	if m := image.Metadata; m != nil {
		d.ImageName, d.ImageVersion = &m.ImageName, &m.ImageVersion
		// nitro-cli puts the user's own members beside its own; here they cannot
		// take the place of those.
		d.Metadata = map[string]any{}
		custom := map[string]json.RawMessage{} // so that numbers stay as they are
		if len(m.CustomMetadata) > 0 {
			// The package has seen that it is an object.
			_ = json.Unmarshal(m.CustomMetadata, &custom)
		}
		for name, value := range custom {
			d.Metadata[name] = value
		}
		d.Metadata["BuildTime"] = m.Build.BuildTime
		d.Metadata["BuildTool"] = m.Build.BuildTool
		d.Metadata["BuildToolVersion"] = m.Build.BuildToolVersion
		d.Metadata["OperatingSystem"] = m.Build.OperatingSystem
		d.Metadata["KernelVersion"] = m.Build.KernelVersion
		d.Metadata["DockerInfo"] = m.DockerInfo
	}
	return d
}

// attributeNames are OpenSSL's long names of the attributes in issuers' names.
var attributeNames = map[string]string{
	"2.5.4.3": "commonName", "2.5.4.5": "serialNumber", "2.5.4.6": "countryName", "2.5.4.7": "localityName",
	"2.5.4.8": "stateOrProvinceName", "2.5.4.10": "organizationName", "2.5.4.11": "organizationalUnitName",
	"1.2.840.113549.1.9.1": "emailAddress", "0.9.2342.19200300.100.1.25": "domainComponent",
}

// algorithmNames are OpenSSL's names of the algorithms that certificates of such
// keys are commonly signed with.
var algorithmNames = map[x509.SignatureAlgorithm]string{
	x509.ECDSAWithSHA256: "ecdsa-with-SHA256", x509.ECDSAWithSHA384: "ecdsa-with-SHA384", x509.ECDSAWithSHA512: "ecdsa-with-SHA512",
	x509.SHA256WithRSA: "sha256WithRSAEncryption", x509.SHA384WithRSA: "sha384WithRSAEncryption", x509.SHA512WithRSA: "sha512WithRSAEncryption",
}

func describeSigner(c *x509.Certificate) *signingCertificate {
	d := &signingCertificate{
		IssuerName: map[string]string{},
		NotBefore:  c.NotBefore.UTC().Format(opensslTime),
		NotAfter:   c.NotAfter.UTC().Format(opensslTime),
		Signature:  strings.ReplaceAll(fmt.Sprintf("% X", c.Signature), " ", ":"),
	}
	for _, attribute := range c.Issuer.Names {
		name, ok := attributeNames[attribute.Type.String()]
		if !ok {
			name = attribute.Type.String()
		}
		d.IssuerName[name] = fmt.Sprint(attribute.Value)
	}
	d.Algorithm = c.SignatureAlgorithm.String()
	if name, ok := algorithmNames[c.SignatureAlgorithm]; ok {
		d.Algorithm = name
	}
	return d
}

// opensslTime is the form of ASN1_TIME_print.
const opensslTime = "Jan _2 15:04:05 2006 GMT"

func writeImage(t *text, image *eif.Image, now time.Time) {
	t.heading("Image")
	t.line("format", "version %d, %v, %d bytes", image.Version, image.Architecture, image.Size)
	t.line("command line", "%s", quote(image.Cmdline))
	t.line("", "no PCR tells where it begins, so that a part of it can be missing under the same ones")
	for _, s := range image.Sections {
		if s.Type == eif.Kernel || s.Type == eif.Ramdisk {
			t.line(s.Type.String(), "%d bytes", s.Size)
		}
	}
	t.heading("PCRs, as documents of its enclaves have them")
	writePCRs(t, &attestation.Claims{Platform: attestation.PlatformEnclave, PCRs: image.PCRs})

	t.heading("Signature")
	if s := image.Signature; s == nil {
		t.line("none", "the image is not signed, so that PCR8 of its enclaves is all zero")
	} else {
		c := describeCertificate("certificate", s.Certificate.Raw)
		c.write(t)
		t.line("", "SHA-256 %x", sha256.Sum256(s.Certificate.Raw))
		if now.After(s.Certificate.NotAfter) {
			t.line("", "EXPIRED: nitro-cli does not run the image")
		}
		t.line("signature", "%s, verifies with that certificate, which came in the same file: whose it is, only PCR8 tells", s.Algorithm)
	}

	m := image.Metadata
	if m == nil {
		return
	}
	var lines text // of what is there: other builders than nitro-cli leave out some, or all
	for _, line := range []struct{ name, value string }{
		{"name", m.ImageName},
		{"version", m.ImageVersion},
		{"built", m.Build.BuildTime},
		{"with", strings.TrimSpace(m.Build.BuildTool + " " + m.Build.BuildToolVersion)},
		{"system", strings.TrimSpace(m.Build.OperatingSystem + " " + m.Build.KernelVersion)},
	} {
		if line.value != "" {
			lines.line(line.name, "%s", quoteShort(line.value))
		}
	}
	for _, more := range []struct {
		name  string
		value []byte
	}{{"Docker", m.DockerInfo}, {"custom", m.CustomMetadata}} {
		if value := bytes.TrimSpace(more.value); len(value) > 0 {
			lines.line(more.name, "%d bytes, which --json shows", len(value))
		}
	}
	if lines.Len() > 0 {
		t.heading("Metadata, which no PCR covers")
		t.Write(lines.Bytes())
	}
}
