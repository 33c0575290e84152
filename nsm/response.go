package nsm

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyvouch/keyvouch/attestation/pcr"
)

// The names by which the NSM's API tells requests and responses apart.
const (
	kindDescribePCR = "DescribePCR"
	kindExtendPCR   = "ExtendPCR"
	kindLockPCR     = "LockPCR"
	kindLockPCRs    = "LockPCRs"
	kindDescribeNSM = "DescribeNSM"
	kindAttestation = "Attestation"
	kindGetRandom   = "GetRandom"
	kindError       = "Error"
)

// response is one decoded answer of the NSM. Only the fields of its kind are
// set.
type response struct {
	kind     string
	code     Code              // Error
	lock     bool              // DescribePCR
	data     []byte            // DescribePCR, ExtendPCR: the PCR's value
	describe describeNSMFields // DescribeNSM
	document []byte            // Attestation
	random   []byte            // GetRandom
}

// The bodies of the responses, with the fields in the order of AWS's own
// structs. Pointers tell a missing field from a zero one. cbor.ByteString
// takes byte strings only, where []byte would take an array of integers too.
type (
	describePCRBody struct {
		Lock *bool            `cbor:"lock"`
		Data *cbor.ByteString `cbor:"data"`
	}
	extendPCRBody struct {
		Data *cbor.ByteString `cbor:"data"`
	}
	describeNSMBody struct {
		VersionMajor *uint16   `cbor:"version_major"`
		VersionMinor *uint16   `cbor:"version_minor"`
		VersionPatch *uint16   `cbor:"version_patch"`
		ModuleID     *string   `cbor:"module_id"`
		MaxPCRs      *uint16   `cbor:"max_pcrs"`
		LockedPCRs   *[]uint16 `cbor:"locked_pcrs"`
		Digest       *string   `cbor:"digest"`
	}
	attestationBody struct {
		Document *cbor.ByteString `cbor:"document"`
	}
	getRandomBody struct {
		Random *cbor.ByteString `cbor:"random"`
	}
)

// describeNSMFields are the values of a DescribeNSM response.
type describeNSMFields struct {
	major, minor, patch uint16
	moduleID            string
	maxPCRs             uint16
	lockedPCRs          []uint16
	digest              string
}

// strict takes what serde writes and nothing ambiguous: no duplicate keys, no
// tags, no field names that differ by case. Unknown fields are ignored, so that
// a newer NSM that says more still works.
var strict = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		TagsMd:            cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
	}.DecMode()
	if err != nil {
		panic("nsm: decode options: " + err.Error()) // constant options: cannot happen
	}
	return mode
}()

var errMissingField = errors.New("a field is missing or null")

// decodeResponse parses one response of the NSM, strictly.
func decodeResponse(raw []byte) (response, error) {
	if len(raw) == 0 || len(raw) > MaxResponseSize {
		return response{}, fmt.Errorf("it is %d bytes, want 1 to %d", len(raw), MaxResponseSize)
	}
	// serde writes a variant without fields as bare text, any other as a map
	// of one entry.
	const majorType, text = 0xe0, 0x60
	if raw[0]&majorType == text {
		var kind string
		if err := strict.Unmarshal(raw, &kind); err != nil {
			return response{}, err
		}
		if kind != kindLockPCR && kind != kindLockPCRs {
			return response{}, fmt.Errorf("unknown response %.40q", kind)
		}
		return response{kind: kind}, nil
	}

	var variants map[string]cbor.RawMessage
	if err := strict.Unmarshal(raw, &variants); err != nil {
		return response{}, err
	}
	if len(variants) != 1 {
		return response{}, fmt.Errorf("a map of %d entries, want 1", len(variants))
	}
	for kind, body := range variants {
		r, err := decodeBody(kind, body)
		if err != nil {
			return response{}, fmt.Errorf("%.40q: %w", kind, err)
		}
		return r, nil
	}
	panic("unreachable")
}

// decodeBody parses the body of a response of the given kind.
func decodeBody(kind string, raw []byte) (response, error) {
	r := response{kind: kind}
	switch kind {
	case kindDescribePCR:
		var b describePCRBody
		if err := strict.Unmarshal(raw, &b); err != nil {
			return response{}, err
		}
		if b.Lock == nil || b.Data == nil {
			return response{}, errMissingField
		}
		r.lock, r.data = *b.Lock, []byte(*b.Data)
		return r, checkPCRValue(r.data)

	case kindExtendPCR:
		var b extendPCRBody
		if err := strict.Unmarshal(raw, &b); err != nil {
			return response{}, err
		}
		if b.Data == nil {
			return response{}, errMissingField
		}
		r.data = []byte(*b.Data)
		return r, checkPCRValue(r.data)

	case kindDescribeNSM:
		var b describeNSMBody
		if err := strict.Unmarshal(raw, &b); err != nil {
			return response{}, err
		}
		if b.VersionMajor == nil || b.VersionMinor == nil || b.VersionPatch == nil ||
			b.ModuleID == nil || b.MaxPCRs == nil || b.LockedPCRs == nil || b.Digest == nil {
			return response{}, errMissingField
		}
		if *b.ModuleID == "" || *b.Digest == "" || *b.MaxPCRs == 0 {
			return response{}, errors.New("module_id, digest or max_pcrs is empty")
		}
		r.describe = describeNSMFields{
			major: *b.VersionMajor, minor: *b.VersionMinor, patch: *b.VersionPatch,
			moduleID: *b.ModuleID, maxPCRs: *b.MaxPCRs, lockedPCRs: *b.LockedPCRs, digest: *b.Digest,
		}
		return r, nil

	case kindAttestation:
		var b attestationBody
		if err := strict.Unmarshal(raw, &b); err != nil {
			return response{}, err
		}
		if b.Document == nil || *b.Document == "" {
			return response{}, errors.New("the document is missing or empty")
		}
		r.document = []byte(*b.Document)
		return r, nil

	case kindGetRandom:
		var b getRandomBody
		if err := strict.Unmarshal(raw, &b); err != nil {
			return response{}, err
		}
		if b.Random == nil || *b.Random == "" {
			return response{}, errors.New("the randomness is missing or empty")
		}
		r.random = []byte(*b.Random)
		return r, nil

	case kindError:
		var code string
		if err := strict.Unmarshal(raw, &code); err != nil {
			return response{}, err
		}
		if code == "" {
			return response{}, errors.New("the error has no name")
		}
		r.code = Code(code)
		return r, nil
	}
	return response{}, errors.New("unknown response")
}

// checkPCRValue holds a PCR's value to the size of SHA-384, which every NSM has.
func checkPCRValue(value []byte) error {
	if len(value) != pcr.Size {
		return fmt.Errorf("a PCR value of %d bytes, want %d", len(value), pcr.Size)
	}
	return nil
}

// encode writes the response as AWS's own library writes it: bare text, or a
// map of one entry with the fields in the order of its structs.
func (r response) encode() ([]byte, error) {
	var body any
	switch r.kind {
	case kindLockPCR, kindLockPCRs:
		return cbor.Marshal(r.kind)
	case kindDescribePCR:
		body = describePCRBody{Lock: &r.lock, Data: byteString(r.data)}
	case kindExtendPCR:
		body = extendPCRBody{Data: byteString(r.data)}
	case kindDescribeNSM:
		d := &r.describe
		if d.lockedPCRs == nil {
			d.lockedPCRs = []uint16{}
		}
		body = describeNSMBody{
			VersionMajor: &d.major, VersionMinor: &d.minor, VersionPatch: &d.patch,
			ModuleID: &d.moduleID, MaxPCRs: &d.maxPCRs, LockedPCRs: &d.lockedPCRs, Digest: &d.digest,
		}
	case kindAttestation:
		body = attestationBody{Document: byteString(r.document)}
	case kindGetRandom:
		body = getRandomBody{Random: byteString(r.random)}
	case kindError:
		body = string(r.code)
	default:
		return nil, fmt.Errorf("a response of the kind %.40q", r.kind)
	}
	return cbor.Marshal(map[string]any{r.kind: body})
}

func byteString(b []byte) *cbor.ByteString {
	s := cbor.ByteString(b)
	return &s
}
