package attestation_test

import (
	"path/filepath"
	"testing"

	"github.com/keyvouch/keyvouch/internal/realdoc"
)

func TestRealDocuments(t *testing.T) {
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation")) {
		t.Run(e.File, func(t *testing.T) { e.Verify(t) })
	}
}

func TestRealRejects(t *testing.T) {
	for _, e := range realdoc.Manifest(t, filepath.Join(realdoc.Fixtures(t), "attestation-negative")) {
		t.Run(e.File, func(t *testing.T) { t.Log(e.Reject(t)) })
	}
}
