//go:build linux && amd64

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
)

// The example program, built for this test, in which the host's roots stand for AWS's
// and Amazon's, and built as everybody builds it.
const (
	programForTest = "/keyrelease/keyrelease"
	programShipped = "/keyrelease/as-shipped"
)

// outcome is what the program says with -json, as far as it is judged.
type outcome struct {
	Result   string `json:"result"`
	SHA256   string `json:"secret_sha256"`
	Refusals []struct {
		By     string `json:"by"`
		Reason string `json:"reason"`
	} `json:"refusals"`
	Steps []json.RawMessage `json:"steps"`
}

// Its exit codes.
const (
	exitReleased = 0
	exitRefused  = 3
)

// program runs the program of examples/keyrelease as an enclave's, with the command
// line of its documentation.
func (g *guest) program() {
	if g.world == nil {
		g.check("keyrelease/program", func(context.Context) (string, error) { return "", skipped("the host has no vsock here") })
		return
	}
	try := func(name, path, key string, sealed []byte, want func(outcome) error) {
		g.check("keyrelease/program-"+name, func(ctx context.Context) (string, error) {
			cmd := exec.CommandContext(ctx, path, "-json", "-device", "/dev/nsm", "-proxy", parent.String(),
				"-region", g.world.Region, "-key-id", key, "-ciphertext", base64.StdEncoding.EncodeToString(sealed))
			cmd.Env = []string{"AWS_ACCESS_KEY_ID=" + g.world.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + g.world.SecretAccessKey, "AWS_SESSION_TOKEN=" + g.world.SessionToken}
			var said, complained bytes.Buffer
			cmd.Stdout, cmd.Stderr = &said, &complained
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return "", err
			}
			var o outcome
			if err := json.Unmarshal(said.Bytes(), &o); err != nil {
				return "", fmt.Errorf("exit code %d, and no report: %w: %s%s", cmd.ProcessState.ExitCode(), err, said.String(), complained.String())
			}
			code := exitReleased
			if o.Result == "refused" {
				code = exitRefused
			}
			if got := cmd.ProcessState.ExitCode(); got != code {
				return "", fmt.Errorf("%s with exit code %d, want %d: %s%s", o.Result, got, code, said.String(), complained.String())
			}
			if err := want(o); err != nil {
				return "", fmt.Errorf("%w: %s%s", err, said.String(), complained.String())
			}
			if len(o.Refusals) > 0 {
				return fmt.Sprintf("exit code %d, as it must be: refused by %s: %s", code, o.Refusals[0].By, o.Refusals[0].Reason), nil
			}
			return fmt.Sprintf("exit code %d after %d steps: the secret that the owner sealed", code, len(o.Steps)), nil
		})
	}
	released := func(o outcome) error {
		if o.Result != "released" || o.SHA256 != g.world.SHA256 || len(o.Refusals) != 0 {
			return errors.New("the secret was not released")
		}
		return nil
	}
	refused := func(by, reason string) func(outcome) error {
		return func(o outcome) error {
			if o.Result != "refused" || o.SHA256 != "" || len(o.Refusals) != 1 || o.Refusals[0].By != by || o.Refusals[0].Reason != reason {
				return fmt.Errorf("want it refused by %s: %s", by, reason)
			}
			return nil
		}
	}
	const verifier = "the verifier"
	decrypt, another := released, refused("KMS", string(kmsclient.ReasonAccessDenied))
	if g.machine == machinePC { // which measures nothing, as an enclave in debug mode
		decrypt = refused(verifier, string(attestation.ReasonDebugMode))
		another = decrypt
	}
	try("decrypt", programForTest, g.world.KeyARN, g.world.Sealed, decrypt)
	try("another-image", programForTest, g.world.OtherKeyARN, g.world.OtherSealed, another)
	try("as-shipped", programShipped, g.world.KeyARN, g.world.Sealed, refused(verifier, string(attestation.ReasonAlgorithm)))
}
