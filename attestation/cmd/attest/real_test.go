package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/internal/programtest"
	"github.com/keyvouch/keyvouch/internal/realdoc"
)

func TestRealDocuments(t *testing.T) {
	dir := realdoc.Fixtures(t)
	folders := map[string][]realdoc.Entry{"negative": realdoc.Manifest(t, filepath.Join(dir, "attestation-negative"))}
	for _, e := range realdoc.Manifest(t, filepath.Join(dir, "attestation")) {
		folder := "production"
		switch {
		case e.Kind == "nitrotpm":
			folder = "nitrotpm"
		case e.Debug:
			folder = "debug"
		}
		folders[folder] = append(folders[folder], e)
	}
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/real",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": programtest.Exits, "each": each},
		Setup: func(env *testscript.Env) error {
			programtest.QuickExit(env)
			for folder, entries := range folders {
				if err := os.Mkdir(filepath.Join(env.WorkDir, folder), 0o700); err != nil {
					return err
				}
				for _, e := range entries {
					if err := os.WriteFile(filepath.Join(env.WorkDir, folder, e.File), e.Raw, 0o600); err != nil {
						return err
					}
				}
			}
			return nil
		},
	})
}
