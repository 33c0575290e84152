package attestation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxMeasurementSize bounds the JSON of a measurement in bytes. What nitro-cli
// prints has some 500, and with an image's metadata some 10,000.
const MaxMeasurementSize = 1 << 20

// hashAlgorithm is what nitro-cli calls SHA-384: the Rust value's debug form.
const hashAlgorithm = "Sha384 { ... }"

// ParseMeasurement reads a measurement from JSON: the output of nitro-cli
// build-enclave or describe-eif, as it is, or what MarshalJSON writes.
//
//	{"Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "…", "PCR1": "…", "PCR2": "…"}}
//
// The name is the member Name or, in the output of describe-eif, ImageName and
// ImageVersion. Other members beside Measurements are passed over; inside, only
// HashAlgorithm and PCR0 to PCR31 may stand, each once. Whether the PCRs suffice
// is for NewVerifier to say.
//
// Errors are of type *Error, with ReasonInvalidPolicy.
func ParseMeasurement(text []byte) (Measurement, error) {
	var m Measurement
	if err := m.UnmarshalJSON(text); err != nil {
		return Measurement{}, err
	}
	return m, nil
}

// MarshalJSON writes the form that ParseMeasurement reads.
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

// UnmarshalJSON is ParseMeasurement for encoding/json. It sets Name and PCRs.
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
				return measurementFile{}, malformed(fmt.Errorf("the member %s differs from %s only by case", shortText(name), known))
			}
			if name == known {
				value = target
			}
		}
		if seen[name] {
			return measurementFile{}, malformed(fmt.Errorf("the member %s occurs twice", shortText(name)))
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
			return nil, invalid("%s occurs twice", shortText(name))
		}
		seen[name] = true
		var value string
		if err := d.Decode(&value); err != nil {
			return nil, &Error{Reason: ReasonInvalidPolicy, Field: "Measurements", Detail: shortText(name) + " is no string", Err: err}
		}
		if name == "HashAlgorithm" {
			if !strings.HasPrefix(strings.ToLower(value), "sha384") {
				return nil, invalid("HashAlgorithm is %s; NSMs use SHA-384 only", shortText(value))
			}
			continue
		}
		index, ok := pcrIndex(name)
		if !ok {
			return nil, invalid("the member %s is no PCR", shortText(name))
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
