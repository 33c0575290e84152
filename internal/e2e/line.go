package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// Prefix begins each line of a guest's report, to tell it from what the kernel
// writes to the same console.
const Prefix = "@e2e "

// Results of a check.
const (
	Passed  = "pass"
	Failed  = "FAIL"
	Skipped = "skip"
)

// Check is the outcome of one check in the guest.
type Check struct {
	// Name is the area and what is checked there, "nsm/extend".
	Name string `json:"name"`
	// Result is Passed, Failed or Skipped.
	Result string `json:"result"`
	// Detail says what was seen, why it failed or why it was skipped.
	Detail string `json:"detail,omitempty"`
	// Millis is how long it took. The processor is emulated, so it says little.
	Millis int64 `json:"ms"`
}

// Line is one line of a guest's report: one of its fields is set.
type Line struct {
	Check *Check `json:"check,omitempty"`
	// Facts are values that the host judges or shows, by name.
	Facts map[string]string `json:"facts,omitempty"`
	// Recording is a part of the recording of NSM requests, which is a file
	// of package nsmtest, compressed by gzip.
	Recording []byte `json:"recording,omitempty"`
	// End is the last line: how many lines came before it. Without it the guest
	// died on the way.
	End *int `json:"end,omitempty"`
}

// Encode returns the line as it goes over the console.
func (l Line) Encode() ([]byte, error) {
	text, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(Prefix), text...), '\n'), nil
}

// ParseLine reads a line of a console. ok is false if it isn't one of a report.
func ParseLine(text []byte) (l Line, ok bool, err error) {
	_, text, ok = bytes.Cut(text, []byte(Prefix))
	if !ok {
		return Line{}, false, nil
	}
	if err := json.Unmarshal(bytes.TrimSpace(text), &l); err != nil {
		return Line{}, true, fmt.Errorf("a damaged line in the guest's report: %w", err)
	}
	return l, true, nil
}

// The vsock ports of the host (context ID 2) that the guest uses.
const (
	HostCID     = 2
	WorldPort   = 9100 // HTTP: what the guest has to know, and signatures in AWS's place
	ProxyPort   = 8000 // the parent's proxy, to KMS's stand-in
	BeatPort    = 9000 // the heartbeat that a parent waits for
	ServicePort = 5000 // of the guest: the enclave application's clients
)

// World is what the guest asks of the host at WorldPort, as JSON of GET /world.
type World struct {
	// Time is the host's, since a guest has no clock that it could trust.
	Time time.Time `json:"time"`
	// Region, KeyARN and the credentials are for KMS's stand-in, and RootCAs is
	// the certificate, PEM, that its TLS leads to.
	Region          string `json:"region"`
	KeyARN          string `json:"key_arn"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
	SessionToken    string `json:"session_token"`
	RootCAs         []byte `json:"root_cas"`
	// Sealed is a secret that KMS encrypted, and SHA256 its digest in
	// hexadecimal.
	Sealed []byte `json:"sealed"`
	SHA256 string `json:"sha256"`
	// OtherKeyARN is a key that KMS releases to another image only, and
	// OtherSealed a secret under it.
	OtherKeyARN string `json:"other_key_arn"`
	OtherSealed []byte `json:"other_sealed"`
	// AttestationRoot is the root, DER, under which POST /sign signs documents.
	AttestationRoot []byte `json:"attestation_root"`
}
