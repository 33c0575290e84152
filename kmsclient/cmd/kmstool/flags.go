package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

// flags are a command's flags as they were given, and how far the call got.
type flags struct {
	set *flag.FlagSet
	err error // the first of a value, without the value: it may be a secret in a wrong place

	region, keyID          string
	unsafeAnyKey, json     bool
	context                map[string]string
	proxy, imds            vsockproxy.Endpoint
	accessKeyID, secret    string
	sessionToken           string
	endpoint, endpointHost string
	roots                  *x509.CertPool
	timeout                time.Duration
	rootsFile              string // "-" is a file of that name
	ciphertextFile         string // "-" is the standard input
	ciphertext             []byte
	algorithm              types.EncryptionAlgorithmSpec
	keySpec                types.DataKeySpec
	pairSpec               types.DataKeyPairSpec
	length                 int32
	proxyFlag, imdsFlag    string   // which of two flags named the endpoint
	ignored                []string // which were given
	stage                  stage
}

// stage is how far a call got.
type stage int

const (
	reading     stage = iota // files
	configuring              // region and credentials
	seeding                  // at the NSM
	asking                   // KMS, with another visit to the NSM first
)

// short are the one-letter flags of kmstool_enclave_cli.
var short = map[string]string{
	"region": "r", "proxy-port": "x", "aws-access-key-id": "k", "aws-secret-access-key": "s", "aws-session-token": "t",
	"ciphertext": "c", "key-id": "K", "key-spec": "p", "encryption-algorithm": "a", "length": "l",
}

// value defines a flag. An empty value is refused, which an unset variable
// leaves and which must not turn a check off.
func (f *flags) value(name, usage string, set func(string) error) {
	f.set.Func(name, usage, func(s string) error {
		var err error
		if s == "" {
			err = errors.New("is empty; leave it out instead")
		} else {
			err = set(s)
		}
		if err != nil && f.err == nil {
			f.err = fmt.Errorf("--%s: %w", name, err)
		}
		return err
	})
}

func (f *flags) text(to *string, name, usage string) {
	f.value(name, usage, func(s string) error { *to = s; return nil })
}

func (f *flags) define(c *command) {
	c.define(f)
	if c.withKey {
		f.text(&f.keyID, "key-id", "the KMS key: its full `ARN`, which alone pins it, or its ID, alias or alias ARN")
		f.set.BoolVar(&f.unsafeAnyKey, "unsafe-any-key", false, "work without a pinned key, and without a warning: anyone's key may be behind the answer")
		f.value("encryption-context", "a pair `KEY=VALUE`, or a JSON object of strings; repeatable", f.addContext)
	}
	f.text(&f.region, "region", "the AWS `REGION` (default: that of the key's ARN, AWS_REGION, AWS_DEFAULT_REGION, "+defaultRegion+")")
	f.value("proxy-port", fmt.Sprintf("the vsock `PORT` of the parent's proxy to KMS (default %d)", defaultPort), f.port(&f.proxy, &f.proxyFlag, "--proxy-port"))
	f.value("proxy", "the proxy's `ENDPOINT` instead: vsock://CID:PORT, hybrid:///PATH?port=PORT, unix:///PATH or tcp://HOST:PORT", f.endpointOf(&f.proxy, &f.proxyFlag, "--proxy"))
	f.text(&f.accessKeyID, "aws-access-key-id", "the credentials' access key `ID` (default: AWS_ACCESS_KEY_ID)")
	f.text(&f.secret, "aws-secret-access-key", "the credentials' `SECRET` access key; other processes see it here: prefer AWS_SECRET_ACCESS_KEY")
	f.set.Func("aws-session-token", "the credentials' session `TOKEN`; other processes see it here: prefer AWS_SESSION_TOKEN", func(s string) error {
		f.sessionToken = s // long-term credentials have none, and callers pass an empty one
		return nil
	})
	f.value("imds-port", "the vsock `PORT` on which the parent forwards to its instance metadata service, for the credentials of its role; those in the environment are ignored then", f.port(&f.imds, &f.imdsFlag, "--imds-port"))
	f.value("imds", "that service's `ENDPOINT` instead, as of --proxy", f.endpointOf(&f.imds, &f.imdsFlag, "--imds"))
	f.value("endpoint", "a KMS endpoint other than the region's, as a `URL`, https://HOST[:PORT]", f.setEndpoint)
	f.text(&f.endpointHost, "endpoint-host", "the `HOST` of --endpoint if it is not one of KMS's own names: whoever holds a certificate for it can forge answers")
	f.text(&f.rootsFile, "root-cas", "the only roots that may certify the endpoint, a `FILE` of PEM certificates in place of Amazon's; for isolated partitions")
	f.value("timeout", fmt.Sprintf("how long all may take, a `DURATION` such as 20s (default %v)", defaultTimeout), f.setTimeout)
	f.set.BoolVar(&f.json, "json", false, "print one JSON object, of a failure too unless it is a mistake in the flags")
}

// parse reads a command's flags. Help was asked for, so it goes to the standard
// output.
func (p *program) parse(c *command, args []string) (*flags, error) {
	f := &flags{set: flag.NewFlagSet(c.name, flag.ContinueOnError), timeout: defaultTimeout,
		proxy: vsockproxy.Vsock(vsockproxy.ParentCID, defaultPort)}
	f.define(c)
	for name, letter := range short {
		if long := f.set.Lookup(name); long != nil {
			long.Usage += "; also -" + letter
		}
	}
	var help bytes.Buffer
	fmt.Fprintf(&help, "Usage: kmstool %s %s\n\n", c.name, c.synopsis)
	f.set.SetOutput(&help)
	f.set.PrintDefaults()
	f.set.SetOutput(io.Discard)

	// What kmstool_enclave_cli takes besides is not in the help.
	for _, name := range c.ignored {
		f.set.Func(name, "", func(string) error { f.ignored = append(f.ignored, name); return nil })
	}
	for name, letter := range short {
		if long := f.set.Lookup(name); long != nil {
			f.set.Var(long.Value, letter, "")
		}
	}

	err := f.set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, _ = help.WriteTo(p.stdout)
		return nil, err
	case f.err != nil:
		return nil, f.err
	case err != nil:
		return nil, parseError(c, err)
	case f.set.NArg() > 0:
		// Not shown: it may be half of a secret that was not quoted.
		return nil, fmt.Errorf("argument %d after the command is neither a flag nor the value of one", len(args)-f.set.NArg()+1)
	}
	if err := f.check(c); err != nil {
		return nil, err
	}
	if err := c.check(f); err != nil {
		return nil, err
	}
	for _, name := range f.ignored {
		p.say("warning: ", fmt.Sprintf("--%s has no effect on %s", name, c.name))
	}
	return f, nil
}

// parseError leaves out what the package flag repeats of the arguments beyond
// the names of flags.
func parseError(c *command, err error) error {
	for _, kind := range []string{"flag provided but not defined: ", "flag needs an argument: "} {
		if name, ok := strings.CutPrefix(err.Error(), kind); ok {
			return fmt.Errorf("%s-%s; kmstool %s -h lists the flags", kind, name, c.name)
		}
	}
	return fmt.Errorf("an argument cannot be read as --flag VALUE or --flag=VALUE; kmstool %s -h lists the flags", c.name)
}

// check checks the flags together.
func (f *flags) check(c *command) error {
	switch {
	case c.needsKey && f.keyID == "":
		return required("key-id", false)
	case f.unsafeAnyKey && f.pinned():
		return errors.New("--unsafe-any-key beside a key ARN, which pins the key: choose one")
	case (f.accessKeyID == "") != (f.secret == ""):
		return errors.New("--aws-access-key-id and --aws-secret-access-key belong together: give both, or neither to have the environment's or the instance's")
	case f.sessionToken != "" && f.accessKeyID == "":
		return errors.New("--aws-session-token needs --aws-access-key-id and --aws-secret-access-key")
	case f.accessKeyID != "" && f.imdsFlag != "":
		return fmt.Errorf("%s beside --aws-access-key-id: choose one source of credentials", f.imdsFlag)
	case f.endpointHost != "" && f.endpoint == "":
		return errors.New("--endpoint-host needs --endpoint")
	}
	return nil
}

// pinned says that the key is named by its full ARN. A malformed one is not taken
// for something else: kmsclient refuses it.
func (f *flags) pinned() bool {
	return strings.HasPrefix(f.keyID, "arn:") && !strings.Contains(f.keyID, ":alias/")
}

// key returns the key as a KMS input has it.
func (f *flags) key() *string {
	if f.keyID == "" {
		return nil
	}
	return &f.keyID
}

func (f *flags) port(to *vsockproxy.Endpoint, by *string, name string) func(string) error {
	return func(s string) error {
		port, err := strconv.ParseUint(s, 10, 32)
		if err != nil || port == 0 || port == 1<<32-1 {
			return errors.New("is no vsock port: 1 to 4294967294")
		}
		return once(to, by, name, vsockproxy.Vsock(vsockproxy.ParentCID, uint32(port)))
	}
}

func (f *flags) endpointOf(to *vsockproxy.Endpoint, by *string, name string) func(string) error {
	return func(s string) error {
		e, err := vsockproxy.ParseEndpoint(s)
		if malformed, ok := errors.AsType[*vsockproxy.Error](err); ok {
			return errors.New(malformed.Detail)
		} else if err != nil {
			return err
		}
		return once(to, by, name, e)
	}
}

// once sets an endpoint that one of two flags may name.
func once(to *vsockproxy.Endpoint, by *string, name string, e vsockproxy.Endpoint) error {
	if *by != "" && *by != name {
		return fmt.Errorf("beside %s: choose one", *by)
	}
	*to, *by = e, name
	return nil
}

func (f *flags) setEndpoint(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("must be https://HOST or https://HOST:PORT")
	}
	f.endpoint = "https://" + u.Host
	return nil
}

func (f *flags) setTimeout(s string) (err error) {
	f.timeout, err = time.ParseDuration(s)
	if err != nil || f.timeout <= 0 {
		return errors.New("must be a duration of more than 0, such as 20s or 2m")
	}
	return nil
}
