package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `Usage:
  vsock-proxy [flags] LOCAL_PORT REMOTE_ADDR REMOTE_PORT
                                     forward a vsock port, as AWS's vsock-proxy does
  vsock-proxy serve --config FILE    forward along the routes of a configuration
  vsock-proxy check [--config] FILE  explain a configuration, or AWS's vsock-proxy.yaml

Flags of the first form:
  -4, --ipv4             use IPv4 addresses only
  -6, --ipv6             use IPv6 addresses only
  -w, --num_workers N    at most N connections at once (1024)
      --config FILE      what may be reached (/etc/nitro_enclaves/vsock-proxy.yaml)
      --listen ENDPOINT  listen elsewhere: vsock://any:8000  unix:///run/p.sock
                         tcp://127.0.0.1:8000  hybrid:///run/v.sock?port=8000  systemd
      --metrics ENDPOINT serve metrics and health: tcp://127.0.0.1:9464
      --unsafe-metrics-on-any-address
      --log-level LEVEL  debug, info, warn or error
      --log-format FORMAT   text or json
      --drain-timeout TIME  for open connections, at the end (5s)
      --version
  -h, --help

Exit codes: 0 an orderly end; 1 something failed; 2 called wrongly, or a mistake in
a file (check: 1 a mistake, 2 nothing to check).
Manual: go doc github.com/keyvouch/keyvouch/vsockproxy/cmd/vsock-proxy
`

// program is the surroundings of one run.
type program struct {
	stdout, stderr io.Writer
	watchInterval  time.Duration // between looks at the files of rules; zero is the default
}

func main() {
	p := program{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(os.Args[1:]))
}

func (p *program) run(args []string) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	var err error
	switch name {
	case "":
		_, _ = io.WriteString(p.stderr, usage)
		return exitUsage
	case "help", "-h", "-help", "--help":
		return p.help()
	case "version", "-V", "-version", "--version":
		_, _ = fmt.Fprintln(p.stdout, "vsock-proxy", version(), "(keyvouch)")
		return exitDone
	case "serve":
		err = p.runServe(args[1:])
	case "check":
		err = p.runCheck(args[1:])
	default:
		name = ""
		err = p.runCompatible(args)
	}
	var wrong mistakes
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, flag.ErrHelp):
		return p.help()
	case errors.As(err, new(loggedError)):
		return exitFailed
	case errors.As(err, new(usageError)):
		p.say(name, err)
		if name == "" {
			_, _ = io.WriteString(p.stderr, "vsock-proxy --help lists the flags\n")
		}
		return exitUsage
	case name == "check":
		p.say(name, err)
		return exitFailed
	case errors.As(err, &wrong), errors.As(err, new(configurationError)):
		p.say(name, err)
		return exitUsage
	}
	p.say(name, err)
	return exitFailed
}

func (p *program) help() int {
	if _, err := io.WriteString(p.stdout, usage); err != nil {
		return exitFailed
	}
	return exitDone
}

// say reports an error, each of its lines on its own.
func (p *program) say(name string, err error) {
	prefix := "vsock-proxy: "
	if name != "" {
		prefix = "vsock-proxy " + name + ": "
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(p.stderr, prefix+strings.TrimSuffix(line, "\n"))
	}
}

// configurationError is a mistake in what a process is to do: starting it again
// will not help.
type configurationError struct{ error }

func (p *program) runCompatible(args []string) error {
	c, err := parseCompatible(args)
	if errors.Is(err, flag.ErrHelp) || errors.As(err, new(usageError)) {
		return err
	}
	if err != nil {
		return configurationError{err}
	}
	return p.serve(c)
}

func (p *program) runServe(args []string) error {
	path, err := configFlag(args, false)
	if err != nil {
		return err
	}
	c, err := loadConfig(path)
	if err != nil {
		return configurationError{err}
	}
	return p.serve(c)
}

func (p *program) runCheck(args []string) error {
	path, err := configFlag(args, true)
	if err != nil {
		return err
	}
	return p.check(path)
}

// configFlag reads a command line that has a configuration and nothing else.
func configFlag(args []string, mayBeBare bool) (string, error) {
	var path string
	set := flagSet("")
	word(set, "config", func(s string) error { path = s; return nil })
	others, err := parseArgs(set, args)
	if err != nil {
		return "", err
	}
	form := "--config FILE"
	if mayBeBare {
		form = "FILE, or --config FILE"
		if path == "" && len(others) > 0 {
			path, others = others[0], others[1:]
		}
	}
	if len(others) > 0 {
		return "", usagef("unexpected argument %+q; the only one is %s", others[0], form)
	}
	if path == "" {
		return "", usagef("%s is missing", form)
	}
	return path, nil
}
