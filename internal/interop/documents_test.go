package interop

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyvouch/keyvouch/internal/realdoc"
)

// fromModule is a document inside a Go module.
type fromModule struct {
	realdoc.Entry
	Module string `json:"module"`
	SHA256 string `json:"sha256"`
}

// load finds the document by its hash, since a file may hold several.
func (d *fromModule) load(t testing.TB) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(moduleDir(t, d.Module), d.File))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs(t, d.File, content) {
		if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) == d.SHA256 {
			d.Raw, d.Source = b, d.Module
			return
		}
	}
	t.Fatalf("%s: no document with SHA-256 %s in %s", d.Module, d.SHA256, d.File)
}

func manifest(t *testing.T) (documents, negative []fromModule) {
	t.Helper()
	text, err := os.ReadFile("testdata/documents.json")
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Documents, Negative []fromModule }
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Documents) == 0 || len(m.Negative) == 0 {
		t.Fatal("testdata/documents.json lists nothing")
	}
	return m.Documents, m.Negative
}

func TestModuleDocuments(t *testing.T) {
	documents, _ := manifest(t)
	for _, d := range documents {
		t.Run(d.File, func(t *testing.T) {
			d.load(t)
			d.Verify(t)
		})
	}
}

func TestModuleRejects(t *testing.T) {
	_, negative := manifest(t)
	for _, d := range negative {
		t.Run(d.File, func(t *testing.T) {
			d.load(t)
			t.Log(d.Reject(t))
		})
	}
}

func TestFixtureDocuments(t *testing.T) {
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation")) {
		t.Run(e.File, func(t *testing.T) { e.Verify(t) })
	}
}

func TestFixtureRejects(t *testing.T) {
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation-negative")) {
		t.Run(e.File, func(t *testing.T) { t.Log(e.Reject(t)) })
	}
}
