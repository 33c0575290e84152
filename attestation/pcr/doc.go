// Package pcr defines the value of a platform configuration register. Every package
// of this module uses it. Package [github.com/keyvouch/keyvouch/nsm] reads registers
// and package [github.com/keyvouch/keyvouch/attestation] judges them, and neither
// imports the other. attestation.PCR is an alias of [Value].
package pcr
