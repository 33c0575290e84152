package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/kmsclient"
	"github.com/keyvouch/keyvouch/nsm"
)

// output is what KMS released.
type output struct {
	Ciphertext []byte `json:"ciphertext,omitempty"`
	Plaintext  []byte `json:"plaintext"`
	PublicKey  []byte `json:"public_key,omitempty"`
	KeyID      string `json:"key_id,omitempty"`
}

// print writes all at once, so that there is all or nothing.
func (p *program) print(out *output, asJSON bool) error {
	var b bytes.Buffer
	if asJSON {
		if err := json.NewEncoder(&b).Encode(out); err != nil {
			return err
		}
	} else {
		for _, line := range []struct {
			name  string
			value []byte
		}{{"CIPHERTEXT", out.Ciphertext}, {"PLAINTEXT", out.Plaintext}, {"PUBLICKEY", out.PublicKey}} {
			if line.value != nil {
				fmt.Fprintf(&b, "%s: %s\n", line.name, base64.StdEncoding.EncodeToString(line.value))
			}
		}
	}
	if _, err := p.stdout.Write(b.Bytes()); err != nil {
		return fmt.Errorf("the output cannot be written: %w", err)
	}
	return nil
}

// failure is the JSON of a failed call.
type failure struct {
	Error failed `json:"error"`
}

type failed struct {
	Reason    string                  `json:"reason,omitempty"`
	Message   string                  `json:"message"`
	Code      string                  `json:"code,omitempty"`
	RequestID string                  `json:"request_id,omitempty"`
	Debug     bool                    `json:"debug,omitempty"`
	PCRs      map[int]attestation.PCR `json:"pcrs,omitempty"`
}

// report says what went wrong, and returns the exit code.
func (p *program) report(ctx context.Context, c *command, f *flags, err error) int {
	e := failed{Message: message(err)}
	if ours, ok := errors.AsType[*kmsclient.Error](err); ok {
		e.Reason, e.Code, e.RequestID, e.Debug, e.PCRs = string(ours.Reason), ours.Code, ours.RequestID, ours.Debug, ours.PCRs
	} else if theirs, ok := errors.AsType[*nsm.Error](err); ok {
		e.Reason = string(theirs.Reason)
	} else if _, ok := errors.AsType[misuse](err); ok {
		e.Reason = string(kmsclient.ReasonInvalidOptions)
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Reason = "timeout"
		e.Message = fmt.Sprintf("not done within %v, the limit that --timeout sets: %s", f.timeout, e.Message)
	case ctx.Err() != nil:
		e.Reason = "interrupted"
		e.Message = "interrupted by a signal: " + e.Message
	}
	e.Message = ascii(p.withoutSecrets(e.Message))
	p.say("kmstool "+c.name+": ", e.Message)
	if hint := f.hint(err, e.Reason); hint != "" {
		p.say("hint: ", hint)
	}
	if f.json {
		encoded, err := json.Marshal(failure{e})
		if err == nil {
			_, err = p.stdout.Write(append(encoded, '\n'))
		}
		if err != nil {
			p.say("kmstool "+c.name+": ", "the output cannot be written: "+err.Error())
		}
	}
	switch kmsclient.Reason(e.Reason) {
	case kmsclient.ReasonInvalidOptions, kmsclient.ReasonNoCredentials, kmsclient.ReasonKeyNotPinned, kmsclient.ReasonEndpoint:
		return exitUsage
	}
	return exitFailed
}

// message is an error's text in the terms of flags, without what the SDK and the
// packages put around it.
func message(err error) string {
	if errors.Is(err, nsm.ReasonNoDevice) {
		return "there is no NSM at /dev/nsm: kmstool runs inside a Nitro Enclave only, on a kernel that has loaded its nsm driver"
	}
	if e, ok := errors.AsType[*kmsclient.Error](err); ok {
		return flagWords.Replace(inOneLine(e.Op, string(e.Reason), e.Field, e.Detail, e.Err))
	}
	if e, ok := errors.AsType[*nsm.Error](err); ok {
		return inOneLine(e.Op, string(e.Reason), e.Field, e.Detail, e.Err)
	}
	return err.Error()
}

// inOneLine is an error's text without its package.
func inOneLine(op, reason, field, detail string, cause error) string {
	var parts []string
	for _, part := range []string{op, reason, field, detail} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if cause != nil {
		parts = append(parts, cause.Error())
	}
	return strings.Join(parts, ": ")
}

// flagWords puts the packages' options in the terms of flags.
var flagWords = strings.NewReplacer(
	"ConfigOptions.Region", "--region",
	"ConfigOptions.Credentials", "--aws-access-key-id and --aws-secret-access-key",
	"ConfigOptions.DialIMDS", "--imds-port",
	"the address that DialIMDS dials", "the address of --imds-port or --imds",
	"Options.Hosts", "--endpoint-host",
	"Options.KeyIDs", "--key-id",
	"KeyIDs", "--key-id",
	"BaseEndpoint", "--endpoint",
)

// hint says which flags to look at.
func (f *flags) hint(err error, reason string) string {
	_, atNSM := errors.AsType[*nsm.Error](err)
	switch kmsclient.Reason(reason) {
	case kmsclient.ReasonChannel, "timeout":
		switch {
		case f.stage == configuring:
			return fmt.Sprintf("the parent's proxy to the instance metadata service is expected at %v", f.imds)
		case f.stage == asking && !atNSM:
			target := f.endpoint
			if target == "" {
				target = "KMS in " + f.region
			}
			return fmt.Sprintf("the parent's proxy to %s is expected at %v; --proxy-port or --proxy says where else", target, f.proxy)
		}
	case kmsclient.ReasonAccessDenied:
		if !f.json {
			return "--json shows the PCRs in full"
		}
	}
	return ""
}

// say writes a line of text to the standard error.
func (p *program) say(prefix, text string) {
	fmt.Fprintf(p.stderr, "%s%s\n", prefix, ascii(p.withoutSecrets(text)))
}

// ascii escapes what could command a terminal or pass for another line: not all
// of a message is this program's own.
func ascii(text string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(text, "…", "...") {
		if r < 0x20 || r > 0x7e {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
