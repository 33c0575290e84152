package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// attack is an attack of a hostile parent in the embedded run.
type attack struct {
	name string
	does string
	// stopsAtVerifier is set if the attack is on the relying party alone. KMS would not
	// refuse it.
	stopsAtVerifier bool
}

var attacks = []attack{
	{name: "image", does: "starts the enclave with an image that differs in one byte"},
	{name: "debug", does: "starts the enclave in debug mode, to read its console"},
	{name: "nonce", does: "answers the relying party with a document it kept from before", stopsAtVerifier: true},
	{name: "root", does: "runs no enclave at all, but signs documents with certificates of its own"},
	{name: "proxy", does: "leads the enclave's connection to a KMS of its own"},
}

func attackNames() []string {
	var names []string
	for _, a := range attacks {
		names = append(names, a.name)
	}
	return names
}

// attackNamed returns the attack, or the zero attack if the name is empty.
func attackNamed(name string) attack {
	i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == name })
	if i < 0 {
		return attack{}
	}
	return attacks[i]
}

// startEnclave starts the software NSM of the enclave that the parent chose.
func startEnclave(attack attack, image []byte, pki *nsmtest.PKI) (*nsmtest.NSM, error) {
	options := nsmtest.Options{Image: image, PKI: pki}
	switch attack.name {
	case "image":
		options.Image = bytes.Clone(image)
		options.Image[len(image)/2] ^= 1
	case "debug":
		options.Debug = true
	case "root":
		options.PKI = nil // a new one
	}
	return nsmtest.New(options)
}

// mustBeRefused returns an error if the attack succeeded: if nobody refused it, or if the
// secret was released all the same.
func mustBeRefused(r *report) error {
	if r.SHA256 != "" || len(r.Refusals) == 0 {
		return fmt.Errorf("the attack %q was NOT refused", r.Tamper)
	}
	return nil
}
