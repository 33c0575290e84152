package main

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

const verifySynopsis = `[flags] FILE

Verifies a document. One of --measurement, --eif, --pcr and --any-measurement says
what to accept. The document must be of an enclave unless --platform says
otherwise; with --any-measurement alone the platform is taken from the document.`

// verifyFlags are the flags of verify as they were given.
type verifyFlags struct {
	measurementFlags
	json, allowDebug, anyMeasurement bool
	pcrs                             map[int]attestation.PCR
	nonce                            []byte // nil if not given
	maxAge                           time.Duration
	at                               time.Time
	atDocument                       bool
	rootFile                         string            // "" if not given
	root                             *x509.Certificate // nil if not given
	platform                         *attestation.Platform
}

func (p *program) verify(args []string) error {
	var f verifyFlags
	set := flagSet("verify")
	f.define(set)
	if err := p.parse(set, verifySynopsis, args, 1); err != nil {
		return err
	}
	if f.atDocument && f.maxAge != 0 {
		return errors.New("--max-age has no effect beside --at document, which judges a document at its own time; choose one")
	}
	if err := f.read(); err != nil {
		return err
	}
	if err := f.complete(p.stderr); err != nil {
		return err
	}
	file := set.Arg(0)
	in, err := p.document(file)
	if err != nil {
		return p.reject(file, rejected, err, f.json)
	}
	policy, expect, err := f.policy(in.raw)
	if err != nil {
		return p.reject(file, rejected, err, f.json)
	}
	verifier, err := attestation.NewVerifier(policy)
	if err != nil {
		return errors.New(flagWords(err, ", or name single ones with --pcr", ", or give --allow-debug"))
	}
	document, err := verifier.Verify(in.raw, expect)
	if e, ok := errors.AsType[*attestation.Error](err); ok && e.Reason == attestation.ReasonInvalidExpectation {
		return fmt.Errorf("--nonce: %s", withoutReason(err))
	}
	if err != nil {
		return p.reject(file, rejected, err, f.json)
	}
	v := f.report(document, policy)
	if f.json {
		return p.writeJSON(v)
	}
	var t text
	t.WriteString(paint(p.stdout, green, "VERIFIED") + "\n")
	v.write(&t)
	return p.writeText(&t)
}

const rejected = "rejected"

// read reads the files that flags name.
func (f *verifyFlags) read() error {
	if err := f.measurementFlags.read(); err != nil || f.rootFile == "" {
		return err
	}
	root, err := readRoot(f.rootFile)
	if err != nil {
		return fmt.Errorf("--root %w", err)
	}
	f.root = root
	return nil
}

// complete checks the flags together.
func (f *verifyFlags) complete(stderr io.Writer) error {
	pinned := len(f.measurements) > 0 || len(f.pcrs) > 0
	switch {
	case f.anyMeasurement && pinned:
		return errors.New("--any-measurement beside --measurement, --eif or --pcr: choose one")
	case f.anyMeasurement:
		return nil
	case !pinned:
		return errors.New("what enclave to accept is not said: give --measurement FILE, --eif FILE or --pcr N=HEX, or --any-measurement for every enclave of every AWS customer")
	}
	// Registers given by hand narrow what the files accept. As one more
	// alternative they would widen it, to any image with this role, say.
	for i := range f.measurements {
		m := &f.measurements[i]
		for index, value := range f.pcrs {
			if other, ok := m.PCRs[index]; ok && other != value {
				return fmt.Errorf("--pcr %d contradicts %s %+q, so that nothing would match", index, f.source, m.Name)
			}
			m.PCRs[index] = value
		}
	}
	if len(f.measurements) > 0 {
		return nil
	}
	f.measurements = []attestation.Measurement{{PCRs: f.pcrs, UnsafePartial: true}}
	together := f.wantedPlatform().ImagePCRs()
	for _, index := range together {
		if _, ok := f.pcrs[index]; !ok {
			fmt.Fprintf(stderr, "warning: PCR%d is not pinned; only PCR%v together stand for the whole image\n", index, together)
			break
		}
	}
	return nil
}

func (f *verifyFlags) wantedPlatform() attestation.Platform {
	if f.platform == nil {
		return attestation.PlatformEnclave
	}
	return *f.platform
}

// policy makes the policy and the expectation. What it takes from the document
// is unverified then and verified with all the rest.
func (f *verifyFlags) policy(raw []byte) (attestation.Policy, attestation.Expect, error) {
	policy := attestation.Policy{
		Measurements:         f.measurements,
		UnsafeAnyMeasurement: f.anyMeasurement,
		UnsafeAllowDebug:     f.allowDebug,
		Platform:             f.wantedPlatform(),
		MaxAge:               f.maxAge,
	}
	if f.root != nil {
		policy.Roots = []*x509.Certificate{f.root}
	}
	expect := attestation.Expect{Nonce: f.nonce, UnsafeAnyNonce: f.nonce == nil, At: f.at}
	platformFromDocument := f.platform == nil && f.anyMeasurement
	if platformFromDocument || f.atDocument {
		u, err := attestation.ParseUnverified(raw)
		if err != nil {
			return policy, expect, err
		}
		if platformFromDocument {
			policy.Platform = u.Platform
		}
		if f.atDocument {
			expect.At = u.Timestamp
		}
	}
	return policy, expect, nil
}

// flagWords says what is wrong with a policy in the terms of flags: partial and
// debug take the place of the options that would allow it.
func flagWords(err error, partial, debug string) string {
	return strings.NewReplacer(
		", or set UnsafePartial", partial,
		", or set UnsafeAllowDebug", debug,
		"Roots[0]", "--root",
	).Replace(withoutReason(err))
}

func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }
