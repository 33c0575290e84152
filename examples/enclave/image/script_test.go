package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"debug/elf"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"image": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			// Keeps the race detector from sleeping a second at each exit.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				return err
			}
			files := map[string]string{
				"bzImage": kernel(nil), "enclave": string(program(elf.EM_X86_64, nil)),
				"config.json": sampleConfig,
			}
			later := time.Now().Add(time.Hour)
			for name, key := range map[string]crypto.Signer{"signing": newKey(t), "rsa": rsaKey} {
				files[name+"-key.pem"], files[name+"-certificate.pem"] = pkcs8(t, key), issue(t, key, later)
			}
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}
