package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/keyvouch/keyvouch/nsm"
)

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Usage:
  kmstool decrypt --ciphertext BASE64|--ciphertext-file FILE [--key-id ARN] [flags]
  kmstool genkey --key-id ARN --key-spec AES-256|AES-128 [flags]
  kmstool genkeypair --key-id ARN --key-pair-spec SPEC [flags]
  kmstool genrandom --length BYTES [flags]

Calls AWS KMS from inside a Nitro Enclave, attested, and prints what it releases
in base64. "kmstool COMMAND -h" lists the flags of a command.

Exit codes: 0 it is printed; 1 KMS refused, or something failed; 2 called wrongly.
Manual: go doc github.com/keyvouch/keyvouch/kmsclient/cmd/kmstool
`

// program is the surroundings of one run. Tests make others, with an NSM in
// software; nothing outside of the tests can.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	openNSM        func() (*nsm.Session, error)
	entropyPool    string         // the kernel's, a file that takes randomness
	roots          *x509.CertPool // of KMS's certificate; nil is Amazon's
	secrets        []string       // of the credentials, in small letters: see learnSecrets
}

func main() {
	p := program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		openNSM: nsm.Open, entropyPool: "/dev/random",
	}
	os.Exit(p.run(os.Args[1:]))
}

func (p *program) run(args []string) int {
	p.learnSecrets(args)
	if len(args) == 0 {
		io.WriteString(p.stderr, usage)
		return exitUsage
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		if len(args) == 0 {
			io.WriteString(p.stdout, usage)
			return exitDone
		}
		name, args = args[0], []string{"-h"}
	}
	c, ok := commands[name]
	if !ok {
		p.say("kmstool: ", noCommand(name))
		io.WriteString(p.stderr, usage)
		return exitUsage
	}
	f, err := p.parse(c, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		p.say("kmstool "+c.name+": ", err.Error())
		return exitUsage
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	out, err := p.call(ctx, c, f)
	if err == nil {
		err = p.print(out, f.json)
	}
	if err != nil {
		return p.report(ctx, c, f, err)
	}
	return exitDone
}

// word is what a mistyped command looks like, and a secret that got into its
// place does not.
var word = regexp.MustCompile(`^[a-z]{1,16}$`)

func noCommand(name string) string {
	switch {
	case name != "" && name[0] == '-':
		return "the command comes before the flags"
	case word.MatchString(name):
		return fmt.Sprintf("there is no command %q", name)
	}
	return "the first argument is no command"
}
