// Attest looks at attestation documents of AWS Nitro Enclaves and of EC2
// instances with a NitroTPM, verifies them, measures enclave images, and writes
// the KMS key policy that asks for them.
//
//	attest inspect [--json] FILE
//	attest verify [flags] FILE
//	attest measure [--json] FILE.eif
//	attest policy --measurement FILE… --key-action ACTION… [flags]
//
// FILE is a document as the NSM returned it, or its base64 or hexadecimal
// text; - is the standard input. Flags stand before FILE. attest COMMAND -h
// lists a command's flags.
//
// # Inspect
//
// Inspect shows what a document says. It verifies nothing: anyone can make a document
// that says anything.
//
// # Verify
//
// Verify checks a document as package attestation does, and prints what was checked
// and what was not. It refuses to run without knowing what enclave to accept:
//
//	attest verify --measurement release.json --nonce 9f86d081… document.cbor
//
// release.json is the output of nitro-cli build-enclave or describe-eif. The image
// itself does as well:
//
//	attest verify --eif release.eif --nonce 9f86d081… document.cbor
//
// Several --measurement, or several --eif, are alternatives, and the output names the
// file that matched. --pcr 0=HEX pins a single register, alone or in addition to either.
// --any-measurement accepts every enclave of every AWS customer.
//
// A document is accepted for five minutes after it was made; --max-age allows more,
// up to the three hours that its certificate lives. --at document judges a document of
// the past as of its own time, so its age is not checked:
//
//	attest verify --at document --any-measurement --allow-debug document.cbor
//
// The document must be of an enclave; --platform nitrotpm demands one of a NitroTPM.
// With --any-measurement and without --platform, documents of either are accepted.
//
// Without --nonce the nonce is not compared, and the document may be a replay. The
// output says so.
//
// # Measure
//
// Measure reads an enclave image file (EIF). It prints the PCRs of its enclaves'
// documents, its command line, its signer and its metadata, which nothing measures:
//
//	attest measure release.eif
//
// It rejects an image that is incomplete, whose checksum or signature is wrong, or that
// no builder writes. A valid signature does not tell who signed: compare PCR8 with the
// one you expect. --json prints what nitro-cli describe-eif prints, with Architecture
// and Cmdline added; --measurement reads it.
//
// # Policy
//
// Policy prints statements for the Statement element of a KMS key policy. They allow
// actions to enclaves of the measurements, and to nothing else:
//
//	attest policy --measurement release.json --key-action kms:Decrypt --principal arn:aws:iam::111122223333:role/app
//
// --eif stands in place of --measurement here, too. For a signed image, --signer pins
// PCR8 and PCR1: it allows every image that the same certificate signs, with the same
// kernel, command line and first ram disk, so a new release needs no new policy.
//
// # Exit codes
//
// 0 if the document was verified (inspect: shown; measure: measured; policy:
// printed), 1 if it was rejected (inspect: is no document; measure: is no image),
// and 2 if nothing could be judged: wrong flags, a file that cannot be read or, for
// --eif, is no image, output that cannot be written.
//
// The line on the standard error says which file it was, and of a rejection the
// reason, which --json has as well:
//
//	attest verify: document.cbor: rejected: nonce: …
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/keyvouch/keyvouch/attestation"
)

const (
	exitVerified = 0
	exitRejected = 1
	exitUsage    = 2
)

const usage = `Usage:
  attest inspect [--json] FILE    show what a document says, unverified
  attest verify [flags] FILE      verify a document
  attest measure [--json] FILE    print the PCRs of an enclave image (EIF)
  attest policy [flags]           print KMS key policy statements

FILE is a document, raw or as base64 or hexadecimal text, or for measure an
image; - is the standard input. "attest COMMAND -h" lists the flags of a command.
`

// rejection is a judgement about the document or the image: the one kind of error
// that is not the caller's mistake.
type rejection struct {
	name    string // of what was judged
	verdict string // "rejected"
	err     error  // an *attestation.Error or an *eif.Error
}

func (r *rejection) Error() string { return r.name + ": " + r.verdict + ": " + withReason(r.err) }

// program is the surroundings of one run.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	p := program{os.Stdin, os.Stdout, os.Stderr}
	os.Exit(p.run(os.Args[1:]))
}

func (p *program) run(args []string) int {
	if len(args) == 0 {
		io.WriteString(p.stderr, usage)
		return exitUsage
	}
	commands := map[string]func(args []string) error{"inspect": p.inspect, "verify": p.verify, "measure": p.measure, "policy": p.policy}
	name := args[0]
	command, ok := commands[name]
	if !ok {
		switch name {
		case "help", "-h", "-help", "--help":
			io.WriteString(p.stdout, usage)
			return exitVerified
		}
		fmt.Fprintf(p.stderr, "attest: there is no command %+q\n%s", name, usage)
		return exitUsage
	}

	err := command(args[1:])
	var r *rejection
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitVerified
	case errors.As(err, &r):
		fmt.Fprintf(p.stderr, "attest %s: %s: %s: %s\n", name, escape(r.name, strconv.IsPrint), paint(p.stderr, red, r.verdict), withReason(r.err))
		if e, ok := r.err.(*attestation.Error); ok && hints[e.Reason] != "" {
			fmt.Fprintf(p.stderr, "hint: %s\n", hints[e.Reason])
		}
		return exitRejected
	}
	fmt.Fprintf(p.stderr, "attest %s: %s\n", name, escape(err.Error(), strconv.IsPrint))
	return exitUsage
}

// hints say in the terms of flags what the package says in terms of its API.
var hints = map[attestation.Reason]string{
	attestation.ReasonUntrustedRoot:      "--root FILE trusts another root in place of AWS's",
	attestation.ReasonCertificateExpired: "--at document judges a document of the past as of its own time",
	attestation.ReasonTooOld:             "--max-age allows more, up to the certificate's three hours; --at document judges it as of its own time",
	attestation.ReasonDebugMode:          "--allow-debug accepts it; its PCRs say nothing about its image",
	attestation.ReasonPlatform:           "--platform names what must have made the document",
}

// flagSet makes the flag set of a command; parse reports its errors and writes
// its help.
func flagSet(name string) *flag.FlagSet {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	return set
}

// parse parses a command's flags, and its arguments, of which there must be
// exactly n. Help was asked for, so it goes to the standard output.
func (p *program) parse(set *flag.FlagSet, synopsis string, args []string, n int) error {
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(p.stdout, "Usage: attest %s %s\n\n", set.Name(), synopsis)
		set.SetOutput(p.stdout)
		set.PrintDefaults()
		return err
	case err != nil:
		return fmt.Errorf("%w; attest %s -h lists the flags", err, set.Name())
	case set.NArg() < n:
		return errors.New("FILE is missing; - is the standard input")
	case set.NArg() > n && n == 0:
		return fmt.Errorf("unexpected argument %+q", set.Arg(0))
	case set.NArg() > n:
		return fmt.Errorf("unexpected argument %+q; flags stand before FILE", set.Arg(n))
	}
	return nil
}
