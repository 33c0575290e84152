// Package realdoc holds tests to real, AWS-signed attestation documents.
//
// A folder of documents has a manifest.json that lists what each must say and
// where it comes from. The documents themselves belong to others and are not in
// this repository: the environment variable KEYVOUCH_FIXTURES names a folder
// that has them, and Go modules bring some to every machine.
package realdoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// Fixtures returns the folder that KEYVOUCH_FIXTURES names, and skips the test
// if it names none.
func Fixtures(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("KEYVOUCH_FIXTURES")
	if dir == "" {
		t.Skip("KEYVOUCH_FIXTURES is not set: it names a folder of recorded documents (attestation/, attestation-negative/, kms-cms/), which this test needs")
	}
	return dir
}

// Entry is one document of a manifest.
type Entry struct {
	File        string         `json:"file"`
	Source      string         `json:"source"`
	Kind        string         `json:"kind"` // "enclave" or "nitrotpm"
	ModuleID    string         `json:"module_id"`
	TimestampMS int64          `json:"timestamp_ms"`
	PCRs        map[int]string `json:"pcrs"` // hex or "zero(48)"
	UserData    string         `json:"user_data"`
	Nonce       string         `json:"nonce"`
	PublicKey   string         `json:"public_key"`
	CABundle    int            `json:"cabundle_certs"`
	Debug       bool           `json:"debug_mode_pcr012_all_zero"`
	LeafBegins  string         `json:"leaf_not_before"`
	LeafEnds    string         `json:"leaf_not_after"`
	WhyRejected string         `json:"why_rejected"`
	Raw         []byte         `json:"-"`
}

// Manifest reads manifest.json of a folder and the documents it lists.
func Manifest(t testing.TB, dir string) []Entry {
	t.Helper()
	var entries []Entry
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatalf("%s/manifest.json: %v", dir, err)
	}
	if len(entries) == 0 {
		t.Fatalf("%s/manifest.json lists no documents", dir)
	}
	for i := range entries {
		entries[i].Raw, err = os.ReadFile(filepath.Join(dir, entries[i].File))
		if err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

// Verify verifies the entry's document at its own time, against the AWS root,
// and compares every field with the manifest.
func (e *Entry) Verify(t testing.TB) *attestation.Document {
	t.Helper()
	policy := attestation.Policy{UnsafeAnyMeasurement: true, UnsafeAllowDebug: e.Debug}
	if e.Kind == "nitrotpm" {
		policy.Platform = attestation.PlatformNitroTPM
	}
	verifier, err := attestation.NewVerifier(policy)
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(e.TimestampMS)
	doc, err := verifier.Verify(e.Raw, attestation.Expect{At: at, UnsafeAnyNonce: true})
	if err != nil {
		t.Fatalf("%s (%s): %v", e.File, e.Source, err)
	}
	e.compare(t, doc)
	return doc
}

func (e *Entry) compare(t testing.TB, doc *attestation.Document) {
	t.Helper()
	same := func(field string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %s = %v, the manifest has %v", e.File, field, got, want)
		}
	}
	same("module ID", doc.ModuleID, e.ModuleID)
	same("timestamp", doc.Timestamp.UnixMilli(), e.TimestampMS)
	same("debug", doc.Debug(), e.Debug)
	same("number of PCRs", len(doc.PCRs), len(e.PCRs))
	for index, want := range e.PCRs {
		if want == "zero(48)" {
			want = strings.Repeat("0", 96)
		}
		got, ok := doc.PCRs[index]
		if !ok {
			t.Errorf("%s: PCR%d is missing", e.File, index)
			continue
		}
		same(fmt.Sprintf("PCR%d", index), got, want)
	}
	same("user data", fieldLength(doc.UserData), e.UserData)
	same("nonce", fieldLength(doc.Nonce), e.Nonce)
	same("public key", fieldLength(doc.PublicKey), e.PublicKey)
	same("certificates", len(doc.Chain()), e.CABundle+1)
	same("leaf's start", doc.Chain()[0].NotBefore.UTC().Format(time.RFC3339), e.LeafBegins)
	same("leaf's end", doc.Chain()[0].NotAfter.UTC().Format(time.RFC3339), e.LeafEnds)
	if len(doc.UnknownFields) != 0 {
		t.Errorf("%s: unknown fields %q", e.File, doc.UnknownFields)
	}
}

// fieldLength writes a field's length as manifests do.
func fieldLength(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) == 0:
		return "empty(h'')"
	}
	return fmt.Sprintf("%d bytes", len(b))
}

// Reject verifies that the document is rejected, at its own time and with
// everything allowed that a policy can allow, and returns the error.
func (e *Entry) Reject(t testing.TB) *attestation.Error {
	t.Helper()
	verifier, err := attestation.NewVerifier(attestation.Policy{UnsafeAnyMeasurement: true, UnsafeAllowDebug: true})
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(e.TimestampMS)
	doc, err := verifier.Verify(e.Raw, attestation.Expect{At: at, UnsafeAnyNonce: true})
	if err == nil || doc != nil {
		t.Fatalf("%s was accepted: it must be rejected: %s", e.File, e.WhyRejected)
	}
	var rejected *attestation.Error
	if !errors.As(err, &rejected) || rejected.Reason == "" {
		t.Fatalf("%s: the error has no Reason: %v", e.File, err)
	}
	return rejected
}
