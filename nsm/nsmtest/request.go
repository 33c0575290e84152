package nsmtest

// The names by which the NSM's API tells requests apart.
const (
	kindDescribePCR = "DescribePCR"
	kindExtendPCR   = "ExtendPCR"
	kindLockPCR     = "LockPCR"
	kindLockPCRs    = "LockPCRs"
	kindDescribeNSM = "DescribeNSM"
	kindAttestation = "Attestation"
	kindGetRandom   = "GetRandom"
)

// request is one parsed request. Only the fields of its kind are set.
type request struct {
	kind      string
	index     int    // DescribePCR, ExtendPCR, LockPCR
	count     int    // LockPCRs: its range
	data      []byte // ExtendPCR
	userData  []byte // Attestation; nil when null or absent
	nonce     []byte // likewise
	publicKey []byte // likewise
}

// parseRequest parses one request. Bytes after the first item are ignored, as
// recorded; so are unknown fields, as by QEMU and by serde's default.
// Everything else that is not a request of the NSM's API is refused.
func parseRequest(b []byte) (request, bool) {
	r := reader{rest: b}
	major, ok := r.peek()
	if !ok {
		return request{}, false
	}
	if major == majorText {
		kind, ok := r.text()
		if !ok || kind != kindDescribeNSM && kind != kindGetRandom {
			return request{}, false
		}
		return request{kind: kind}, true
	}

	var req request
	variants := 0
	ok = r.entries(func(kind string) bool {
		variants++
		req.kind = kind
		return variants == 1 && req.parseBody(&r)
	})
	if !ok || variants != 1 {
		return request{}, false
	}
	return req, true
}

// parseBody parses the fields of a request of a known kind.
func (req *request) parseBody(r *reader) bool {
	seen := map[string]bool{}
	ok := r.entries(func(field string) bool {
		if seen[field] {
			return false
		}
		seen[field] = true
		return req.parseField(r, field)
	})
	if !ok {
		return false
	}
	switch req.kind {
	case kindDescribePCR, kindLockPCR:
		return seen["index"]
	case kindExtendPCR:
		return seen["index"] && seen["data"]
	case kindLockPCRs:
		return seen["range"]
	}
	return req.kind == kindAttestation
}

func (req *request) parseField(r *reader, field string) (ok bool) {
	indexed := req.kind == kindDescribePCR || req.kind == kindExtendPCR || req.kind == kindLockPCR
	attestation := req.kind == kindAttestation
	switch {
	case field == "index" && indexed:
		req.index, ok = r.uint8()
	case field == "range" && req.kind == kindLockPCRs:
		req.count, ok = r.uint8()
	case field == "data" && req.kind == kindExtendPCR:
		req.data, ok = r.bytesOrText()
	case field == "user_data" && attestation:
		req.userData, ok = optional(r)
	case field == "nonce" && attestation:
		req.nonce, ok = optional(r)
	case field == "public_key" && attestation:
		req.publicKey, ok = optional(r)
	default:
		ok = r.skip(0)
	}
	return ok
}

// optional reads a byte string, or null as nil.
func optional(r *reader) ([]byte, bool) {
	if r.null() {
		return nil, true
	}
	return r.bytesOrText()
}
