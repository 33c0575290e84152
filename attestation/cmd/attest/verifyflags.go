package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation"
)

// define defines the flags. Each refuses an empty value, which an unset shell
// variable leaves and which must not turn a check off.
func (f *verifyFlags) define(set *flag.FlagSet) {
	set.BoolVar(&f.json, "json", false, "print JSON, of a rejection too")
	set.BoolVar(&f.allowDebug, "allow-debug", false, "accept enclaves in debug mode, whose PCR0, 1 and 2 are zero whatever the image")
	set.BoolVar(&f.anyMeasurement, "any-measurement", false, "accept every enclave of every AWS customer")
	set.Func("pcr", "accept only documents with this register, `N=HEX`; repeatable, all must match", f.addPCR)
	f.measurementFlags.define(set, "accept, as one of several, what")
	set.Func("nonce", "the nonce that was sent with the request, in `HEX`; without it the nonce is not compared", f.setNonce)
	set.Func("max-age", fmt.Sprintf("how old the document may be, a `DURATION` such as 1h30m (default %v)", attestation.DefaultMaxAge), f.setMaxAge)
	set.Func("at", "judge as of this `TIME`, as in 2026-03-14T12:00:00Z, or \"document\" for the document's own; without it, now", f.setAt)
	set.Func("root", "trust the certificate in this `FILE`, PEM or DER, in place of AWS's", f.setRoot)
	set.Func("platform", "the `PLATFORM` that must have made the document, nitro-enclave or nitrotpm (default nitro-enclave; with --any-measurement, either)", f.setPlatform)
}

func (f *verifyFlags) addPCR(s string) error {
	number, value, ok := strings.Cut(s, "=")
	index, err := strconv.Atoi(number)
	if !ok || err != nil || index < 0 || index >= attestation.MaxPCRs || strconv.Itoa(index) != number {
		return fmt.Errorf("want N=HEX with N from 0 to %d", attestation.MaxPCRs-1)
	}
	pcr, err := attestation.ParsePCR(value)
	if err != nil {
		return errors.New(withoutReason(err))
	}
	if _, twice := f.pcrs[index]; twice {
		return fmt.Errorf("PCR%d is given twice", index)
	}
	if f.pcrs == nil {
		f.pcrs = map[int]attestation.PCR{}
	}
	f.pcrs[index] = pcr
	return nil
}

func (f *verifyFlags) setNonce(s string) (err error) {
	if s == "" {
		return errors.New("is empty; leave --nonce out if the nonce shall not be compared")
	}
	f.nonce, err = hex.DecodeString(s)
	if err != nil {
		return errors.New("is not hexadecimal")
	}
	return nil
}

func (f *verifyFlags) setMaxAge(s string) (err error) {
	f.maxAge, err = time.ParseDuration(s)
	if err == nil && f.maxAge <= 0 {
		err = errors.New("must be more than 0")
	}
	return err
}

func (f *verifyFlags) setAt(s string) (err error) {
	if f.atDocument = s == "document"; f.atDocument {
		return nil
	}
	f.at, err = time.Parse(time.RFC3339, s)
	switch {
	case err != nil:
		return errors.New("is neither \"document\" nor a time such as 2026-03-14T12:00:00Z (RFC 3339)")
	case f.at.IsZero():
		// Expect.At means now if it is zero.
		return errors.New("is before there were documents")
	}
	return nil
}

func (f *verifyFlags) setRoot(file string) error {
	f.rootFile = file
	return checkFileFlag(file)
}

func (f *verifyFlags) setPlatform(s string) error {
	platform, err := parsePlatform(s)
	f.platform = &platform
	return err
}

func parsePlatform(s string) (attestation.Platform, error) {
	for _, p := range []attestation.Platform{attestation.PlatformEnclave, attestation.PlatformNitroTPM} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("there are %v and %v", attestation.PlatformEnclave, attestation.PlatformNitroTPM)
}
