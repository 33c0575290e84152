package attestation

import (
	"bytes"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyvouch/keyvouch/attestation/pcr"
	"github.com/keyvouch/keyvouch/internal/errtext"
)

// PCRSize is the size of a PCR value in bytes, that of SHA-384.
const PCRSize = pcr.Size

// PCR is the value of a platform configuration register, 48 bytes. It is the type
// [pcr.Value], which has its methods.
type PCR = pcr.Value

// ParsePCR reads a PCR from 96 hexadecimal digits, upper or lower case, as
// nitro-cli prints it. The error is an [*Error] with [ReasonInvalidPolicy].
func ParsePCR(s string) (PCR, error) {
	v, err := pcr.Parse(s)
	if err != nil {
		return PCR{}, &Error{Op: "ParsePCR", Reason: ReasonInvalidPolicy, Err: err}
	}
	return v, nil
}

// The PCRs of an enclave, by what is measured into them (AWS Nitro Enclaves
// user guide, "Cryptographic attestation").
const (
	PCRImage       = 0 // the enclave image: kernel, command line, ram disks
	PCRKernel      = 1 // kernel, command line and first ram disk
	PCRApplication = 2 // the other ram disks
	PCRRole        = 3 // the IAM role of the parent instance; see RolePCR
	PCRInstance    = 4 // the parent instance; see InstancePCR
	PCRSigner      = 8 // the certificate that signed the image; see SignerPCR
)

// RolePCR is the value of PCR3 in enclaves whose parent instance has the IAM
// role of this ARN, arn:aws:iam::<account>:role/<name>. PCR3 is zero if the
// parent has no role.
func RolePCR(arn string) PCR { return extended([]byte(arn)) }

// InstancePCR is the value of PCR4 in enclaves of the instance with this ID,
// "i-" and 17 hexadecimal digits.
func InstancePCR(id string) PCR { return extended([]byte(id)) }

// SignerPCR is the value of PCR8 in enclaves whose image was signed with the key of
// this certificate. PCR8 is zero if the image is not signed.
func SignerPCR(certificate *x509.Certificate) PCR {
	digest := sha512.Sum384(certificate.Raw)
	return extended(digest[:])
}

// extended is the value of a register after one extension: the hash over its
// zero value and the data.
func extended(data []byte) PCR {
	h := sha512.New384()
	h.Write(make([]byte, PCRSize))
	h.Write(data)
	return PCR(h.Sum(nil))
}

// Measurement is one set of PCR values that a policy accepts, typically one
// release of an enclave image. A document matches if it has every one of them.
type Measurement struct {
	// Name appears in Document.Checked and in errors, for example "v4.1".
	Name string
	// PCRs holds the expected values by index, 0 to 31. An enclave needs 0, 1 and
	// 2 together: PCR0 hashes kernel, command line and ram disks without
	// boundaries, so with PCR0 alone bytes can move between them. The command line
	// is not safe from that even with all three; see package eif. A NitroTPM needs
	// 4, 7 and 12.
	PCRs map[int]PCR
	// UnsafePartial allows a measurement that lacks some of these.
	UnsafePartial bool
}

// shownName quotes the name for errors. It is the policy's own, not the document's,
// and often a path, which only its end tells from others: so it has more room.
func (m *Measurement) shownName() string {
	const maxName = 256
	return errtext.QuoteUpTo(maxName, m.Name)
}

func sortedIndices(pcrs map[int]PCR) []int {
	indices := make([]int, 0, len(pcrs))
	for index := range pcrs {
		indices = append(indices, index)
	}
	slices.Sort(indices)
	return indices
}

// hashAlgorithm is what nitro-cli calls SHA-384: the Rust value's debug form.
const hashAlgorithm = "Sha384 { ... }"

// ParseMeasurement reads a measurement from JSON: the output of nitro-cli
// build-enclave or describe-eif, as it is, or what MarshalJSON writes.
//
//	{"Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "…", "PCR1": "…", "PCR2": "…"}}
//
// The name is the member Name or, in the output of describe-eif, ImageName and
// ImageVersion. Other members beside Measurements are ignored. Measurements may hold
// only HashAlgorithm and PCR0 to PCR31, each once. [NewVerifier] judges whether the
// PCRs suffice.
//
// The error is an [*Error] with [ReasonInvalidPolicy].
func ParseMeasurement(text []byte) (Measurement, error) {
	var m Measurement
	if err := m.UnmarshalJSON(text); err != nil {
		return Measurement{}, named("ParseMeasurement", err)
	}
	return m, nil
}

// MarshalJSON writes the form that [ParseMeasurement] reads.
func (m Measurement) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	name, err := json.Marshal(m.Name)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, `{"Name":%s,"Measurements":{"HashAlgorithm":%q`, name, hashAlgorithm)
	for _, index := range sortedIndices(m.PCRs) {
		fmt.Fprintf(&b, `,"PCR%d":"%s"`, index, m.PCRs[index])
	}
	b.WriteString(`}}`)
	return b.Bytes(), nil
}

// UnmarshalJSON is [ParseMeasurement] for encoding/json. It sets Name and PCRs.
func (m *Measurement) UnmarshalJSON(text []byte) error {
	if len(text) > MaxMeasurementSize {
		return fail(ReasonInvalidPolicy, "measurement", "is %d bytes, more than %d", len(text), MaxMeasurementSize)
	}
	file, err := parseMeasurementFile(text)
	if err != nil {
		return err
	}
	pcrs, err := parsePCRMembers(file.measurements)
	if err != nil {
		return err
	}
	m.PCRs = pcrs
	m.Name = file.name
	if m.Name == "" {
		m.Name = strings.TrimSpace(file.imageName + " " + file.imageVersion)
	}
	return nil
}

type measurementFile struct {
	name, imageName, imageVersion string
	measurements                  json.RawMessage
}

// parseMeasurementFile reads the outer object member by member: encoding/json
// would fold the case of names and let the last of several win, so that another
// tool, or a reviewer, could see other PCRs in the file than this package does.
func parseMeasurementFile(text []byte) (measurementFile, error) {
	malformed := func(err error) error {
		return &Error{Reason: ReasonInvalidPolicy, Field: "measurement", Detail: "is not the JSON that nitro-cli prints", Err: err}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		// What the shell's > leaves behind of a build that failed.
		return measurementFile{}, fail(ReasonInvalidPolicy, "measurement", "is empty; did the build that should have written it fail?")
	}
	if !json.Valid(text) {
		return measurementFile{}, malformed(errors.New("no JSON, or more than one value"))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return measurementFile{}, malformed(errors.New("no object"))
	}
	var file measurementFile
	members := map[string]any{
		"Name": &file.name, "ImageName": &file.imageName, "ImageVersion": &file.imageVersion, "Measurements": &file.measurements,
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return measurementFile{}, malformed(err)
		}
		name := token.(string)
		var value any = new(json.RawMessage)
		for known, target := range members {
			if name != known && strings.EqualFold(name, known) {
				return measurementFile{}, malformed(fmt.Errorf("the member %s differs from %s only by case", errtext.Quote(name), known))
			}
			if name == known {
				value = target
			}
		}
		if seen[name] {
			return measurementFile{}, malformed(fmt.Errorf("the member %s occurs twice", errtext.Quote(name)))
		}
		seen[name] = true
		if err := d.Decode(value); err != nil {
			return measurementFile{}, malformed(err)
		}
	}
	return file, nil
}

// parsePCRMembers reads the object with the PCRs member by member, since
// encoding/json would let a second PCR0 replace the first.
func parsePCRMembers(object json.RawMessage) (map[int]PCR, error) {
	invalid := func(format string, args ...any) error {
		return fail(ReasonInvalidPolicy, "Measurements", format, args...)
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, invalid("is missing or no object; it holds PCR0, PCR1, …")
	}
	pcrs := map[int]PCR{}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, &Error{Reason: ReasonInvalidPolicy, Field: "Measurements", Err: err}
		}
		name := token.(string)
		if seen[name] {
			return nil, invalid("%s occurs twice", errtext.Quote(name))
		}
		seen[name] = true
		var value string
		if err := d.Decode(&value); err != nil {
			return nil, &Error{Reason: ReasonInvalidPolicy, Field: "Measurements", Detail: errtext.Quote(name) + " is no string", Err: err}
		}
		if name == "HashAlgorithm" {
			if !strings.HasPrefix(strings.ToLower(value), "sha384") {
				return nil, invalid("HashAlgorithm is %s; NSMs use SHA-384 only", errtext.Quote(value))
			}
			continue
		}
		index, ok := pcrIndex(name)
		if !ok {
			return nil, invalid("the member %s is no PCR", errtext.Quote(name))
		}
		if pcrs[index], err = ParsePCR(value); err != nil {
			return nil, in(fmt.Sprintf("Measurements.PCR%d", index), err)
		}
	}
	if len(pcrs) == 0 {
		return nil, invalid("holds no PCRs")
	}
	return pcrs, nil
}

// pcrIndex reads "PCR0" to "PCR31", in this one form.
func pcrIndex(name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, "PCR")
	index, err := strconv.Atoi(digits)
	return index, ok && err == nil && index >= 0 && index < MaxPCRs && strconv.Itoa(index) == digits
}
