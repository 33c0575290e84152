// Package pcr has the value of a platform configuration register, the one type by
// which every package of this module takes and gives it. It stands alone, so that
// [github.com/keyvouch/keyvouch/nsm], which reads registers, and
// [github.com/keyvouch/keyvouch/attestation], which judges them, share it without
// reaching each other. attestation.PCR is the same type under the name that most
// programs use.
package pcr
