package attestation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/internal/errtext"
)

// The fields of a document, by their names on the wire (attestation_process.md
// in aws-nitro-enclaves-nsm-api; nitrotpm_pcrs from the NitroTPM's documents).
const (
	fieldModuleID     = "module_id"
	fieldDigest       = "digest"
	fieldTimestamp    = "timestamp"
	fieldPCRs         = "pcrs"
	fieldNitroTPMPCRs = "nitrotpm_pcrs"
	fieldCertificate  = "certificate"
	fieldCABundle     = "cabundle"
	fieldPublicKey    = "public_key"
	fieldUserData     = "user_data"
	fieldNonce        = "nonce"
)

var knownFields = [...]string{
	fieldModuleID, fieldDigest, fieldTimestamp, fieldPCRs, fieldNitroTPMPCRs,
	fieldCertificate, fieldCABundle, fieldPublicKey, fieldUserData, fieldNonce,
}

// digestSHA384 is the only digest there is.
const digestSHA384 = "SHA384"

// A timestamp below this (2017-07-14, before there were enclaves) can only
// be seconds; one above the other bound (the year 10000) is none.
const (
	minTimestampMillis = 1_500_000_000_000
	maxTimestampMillis = 253_402_300_800_000
)

// payload is a decoded document: what it says, and its certificates.
type payload struct {
	Claims
	certificate []byte
	cabundle    [][]byte
}

// parsePayload reads the map that is signed. Its byte slices alias raw.
func parsePayload(raw []byte) (*payload, error) {
	p := &payload{}
	r := &reader{data: raw}
	it, err := r.head("payload")
	if err != nil {
		return nil, err
	}
	if it.major != majorMap {
		return nil, fail(ReasonFieldType, "payload", "is %v, not a map", it)
	}
	// NSMs write this one map with an indefinite length since June 2025 and
	// wrote a definite one before.
	if !it.indefinite && it.arg > uint64(len(knownFields)+MaxUnknownFields) {
		return nil, fail(ReasonFieldUnknown, "payload", "has %d fields, more than %d known and %d unknown ones", it.arg, len(knownFields), MaxUnknownFields)
	}
	var seen [len(knownFields)]bool
	for n := uint64(0); it.indefinite || n < it.arg; n++ {
		if it.indefinite && r.pos < len(raw) && raw[r.pos] == headBreak {
			r.pos++
			break
		}
		name, err := r.text("payload key", 1, maxNameSize)
		if err != nil {
			return nil, err
		}
		if err := p.field(r, name, &seen); err != nil {
			return nil, err
		}
	}
	if err := r.end("payload"); err != nil {
		return nil, err
	}
	if err := p.complete(&seen); err != nil {
		return nil, err
	}
	return p, nil
}

// field reads the value of one field.
func (p *payload) field(r *reader, name string, seen *[len(knownFields)]bool) (err error) {
	known := slices.Index(knownFields[:], name)
	if known < 0 {
		return p.unknown(r, name)
	}
	if seen[known] {
		return fail(ReasonFieldDuplicate, name, "occurs twice")
	}
	seen[known] = true

	// AWS's text forbids null; NSMs write it for the three optional fields.
	optional := name == fieldPublicKey || name == fieldUserData || name == fieldNonce
	if r.isNull() && !optional {
		return fail(ReasonFieldMissing, name, "is null; it is mandatory")
	}
	switch name {
	case fieldModuleID:
		p.ModuleID, err = r.text(name, 1, MaxModuleIDSize)
	case fieldDigest:
		err = p.digest(r)
	case fieldTimestamp:
		err = p.timestamp(r)
	case fieldPCRs, fieldNitroTPMPCRs:
		if p.PCRs != nil {
			return fail(ReasonPCRs, name, "a document has %s or %s, not both", fieldPCRs, fieldNitroTPMPCRs)
		}
		if name == fieldNitroTPMPCRs {
			p.Platform = PlatformNitroTPM
		}
		p.PCRs, err = parsePCRs(r, name)
	case fieldCertificate:
		p.certificate, err = r.bytes(name, 1, MaxCertificateSize, ReasonFieldSize)
	case fieldCABundle:
		p.cabundle, err = parseCABundle(r)
	case fieldPublicKey:
		p.PublicKey, err = r.optionalBytes(name, MaxFieldSize)
	case fieldUserData:
		p.UserData, err = r.optionalBytes(name, MaxFieldSize)
	case fieldNonce:
		p.Nonce, err = r.optionalBytes(name, MaxFieldSize)
	}
	return err
}

// unknown passes over a field that a later NSM may have added, so that the
// addition does not stop every verifier in the field at once.
func (p *payload) unknown(r *reader, name string) error {
	for _, k := range knownFields {
		if strings.EqualFold(k, name) {
			return fail(ReasonFieldUnknown, "payload", "the field %s differs from %s only by case", errtext.Quote(name), k)
		}
	}
	for _, u := range p.UnknownFields {
		if strings.EqualFold(u, name) {
			return fail(ReasonFieldDuplicate, "payload", "the field %s occurs twice", errtext.Quote(name))
		}
	}
	if len(p.UnknownFields) == MaxUnknownFields {
		return fail(ReasonFieldUnknown, "payload", "more than %d unknown fields", MaxUnknownFields)
	}
	p.UnknownFields = append(p.UnknownFields, name)
	return r.skip("unknown field", maxSkipDepth)
}

func (p *payload) digest(r *reader) error {
	s, err := r.text(fieldDigest, 1, maxNameSize)
	if err == nil && s != digestSHA384 {
		err = fail(ReasonDigest, fieldDigest, "is %s, not %q", errtext.Quote(s), digestSHA384)
	}
	return err
}

func (p *payload) timestamp(r *reader) error {
	ms, err := r.expect(fieldTimestamp, majorUint)
	if err != nil {
		return err
	}
	if ms < minTimestampMillis || ms >= maxTimestampMillis {
		hint := ""
		if ms >= minTimestampMillis/1000 && ms < maxTimestampMillis/1000 {
			hint = "; it looks like seconds"
		}
		return fail(ReasonTimestamp, fieldTimestamp, "is %d, which cannot be milliseconds since 1970%s", ms, hint)
	}
	p.Timestamp = time.UnixMilli(int64(ms)).UTC()
	return nil
}

func parsePCRs(r *reader, name string) (map[int]PCR, error) {
	n, err := r.expect(name, majorMap)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > MaxPCRs {
		return nil, fail(ReasonPCRs, name, "has %d entries, not 1 to %d", n, MaxPCRs)
	}
	pcrs := make(map[int]PCR, n)
	for range n {
		index, err := r.expect("", majorUint)
		if err != nil {
			return nil, in(name+" key", err)
		}
		if index >= MaxPCRs {
			return nil, fail(ReasonPCRs, name, "index %d is over %d", index, MaxPCRs-1)
		}
		if _, dup := pcrs[int(index)]; dup {
			return nil, fail(ReasonFieldDuplicate, fmt.Sprintf("%s[%d]", name, index), "occurs twice")
		}
		value, err := r.bytes("", PCRSize, PCRSize, ReasonPCRs)
		if err != nil {
			return nil, in(fmt.Sprintf("%s[%d]", name, index), err)
		}
		pcrs[int(index)] = PCR(value)
	}
	return pcrs, nil
}

func parseCABundle(r *reader) ([][]byte, error) {
	n, err := r.expect(fieldCABundle, majorArray)
	if err != nil {
		return nil, err
	}
	if n < 1 || n > MaxCABundle {
		return nil, fail(ReasonCABundle, fieldCABundle, "has %d certificates, not 1 to %d", n, MaxCABundle)
	}
	bundle := make([][]byte, n)
	for i := range bundle {
		bundle[i], err = r.bytes("", 1, MaxCertificateSize, ReasonFieldSize)
		if err != nil {
			return nil, in(bundleField(i), err)
		}
	}
	return bundle, nil
}

func bundleField(i int) string { return fmt.Sprintf("%s[%d]", fieldCABundle, i) }

// complete reports the first mandatory field that is missing.
func (p *payload) complete(seen *[len(knownFields)]bool) error {
	for i, name := range knownFields {
		switch name {
		case fieldPublicKey, fieldUserData, fieldNonce, fieldNitroTPMPCRs:
			continue
		case fieldPCRs:
			if p.PCRs != nil {
				continue
			}
		}
		if !seen[i] {
			return fail(ReasonFieldMissing, name, "is absent; it is mandatory")
		}
	}
	return nil
}
