// Keyrelease runs an attested key release from end to end. An enclave gets an attestation
// document, a relying party verifies it, and KMS releases a secret to the enclave. The
// parent that forwards the connection sees only ciphertext.
//
// Without flags everything runs in this one process, with a software NSM and a stand-in for
// KMS, on any machine:
//
//	go run ./examples/keyrelease
//	go run ./examples/keyrelease -tamper image
//
// In a real enclave the same release uses the real NSM and KMS; README.md has the steps:
//
//	keyrelease -device /dev/nsm -proxy vsock://3:8000 -region eu-central-1 -key-id arn:aws:kms:… -ciphertext BASE64
//
// It exits with 0 if the secret was released, 3 if it was refused, 1 after a failure and 2
// after a wrong command line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	exitReleased = 0
	exitFailed   = 1
	exitUsage    = 2
	exitRefused  = 3
)

// timeLimit ends a run that hangs: in an enclave nobody can press ^C.
const timeLimit = 2 * time.Minute

type flags struct {
	tamper string
	json   bool
	real   realEnclave
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitReleased
	}
	if err != nil {
		fmt.Fprintln(stderr, "keyrelease:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()

	r := &report{Tamper: f.tamper}
	if !f.json {
		r.out = stdout
	}
	if f.real.wanted() {
		err = f.real.release(ctx, r)
	} else {
		err = demonstrate(ctx, r, f.tamper)
	}
	r.finish(err)
	if f.json {
		if err := r.writeJSON(stdout); err != nil {
			fmt.Fprintln(stderr, "keyrelease:", err)
			return exitFailed
		}
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "keyrelease:", err)
		return exitFailed
	case r.Result == resultRefused:
		return exitRefused
	}
	return exitReleased
}

func parseFlags(args []string, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("keyrelease", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.tamper, "tamper", "", "`attack` to run: "+strings.Join(attackNames(), ", "))
	set.BoolVar(&f.json, "json", false, "print one JSON object instead of text")
	set.StringVar(&f.real.device, "device", "", "in a real enclave: the NSM, "+nsmDevice)
	set.StringVar(&f.real.proxy, "proxy", "", "in a real enclave: the parent's proxy, for example vsock://3:8000")
	set.StringVar(&f.real.region, "region", "", "in a real enclave: the KMS key's region")
	set.StringVar(&f.real.keyID, "key-id", "", "in a real enclave: the KMS key's `ARN`")
	set.StringVar(&f.real.ciphertext, "ciphertext", "", "in a real enclave: the secret as KMS encrypted it, in `base64`")
	set.Usage = func() {
		fmt.Fprintln(stderr, "Usage: keyrelease [-tamper ATTACK] [-json]")
		fmt.Fprintln(stderr, "       keyrelease [-json] -device /dev/nsm -proxy ENDPOINT -region REGION -key-id ARN -ciphertext BASE64")
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if f.tamper != "" && !slices.Contains(attackNames(), f.tamper) {
		return f, fmt.Errorf("-tamper %s: there are %s", f.tamper, strings.Join(attackNames(), ", "))
	}
	if f.real.wanted() {
		if f.tamper != "" {
			return f, errors.New("-tamper is for the embedded run only; leave out -device and its like")
		}
		return f, f.real.check()
	}
	return f, nil
}
