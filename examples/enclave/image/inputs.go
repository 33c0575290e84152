package main

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
)

// checkKernel refuses a kernel that the hypervisor could not start, by the setup header of
// a bzImage (the kernel's Documentation/arch/x86/boot.rst).
func checkKernel(kernel []byte) error {
	const (
		bootFlag, magic, version, loadFlags, xLoadFlags = 0x1fe, 0x202, 0x206, 0x211, 0x236
		headerEnd                                       = 0x238

		loadedHigh  = 1 // of loadFlags: a bzImage, not the zImage of old
		entry64     = 1 // of xLoadFlags, since version 2.12: it is for x86-64
		version2_12 = 0x20c
	)
	if len(kernel) < headerEnd ||
		binary.LittleEndian.Uint16(kernel[bootFlag:]) != 0xaa55 || string(kernel[magic:magic+4]) != "HdrS" ||
		kernel[loadFlags]&loadedHigh == 0 ||
		binary.LittleEndian.Uint16(kernel[version:]) < version2_12 || kernel[xLoadFlags]&entry64 == 0 {
		return errors.New("is no bzImage of x86-64; /usr/share/nitro_enclaves/blobs/bzImage is one")
	}
	return nil
}

// checkProgram refuses a program that an enclave could not start: nobody would see why.
func checkProgram(program []byte) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("is no program for Linux; build it with GOOS=linux GOARCH=amd64: %w", err)
	}
	if f.Machine != elf.EM_X86_64 {
		return fmt.Errorf("is for %v; build it with GOARCH=amd64", f.Machine)
	}
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return errors.New("needs shared libraries, which are not in the image; build it with CGO_ENABLED=0")
		}
	}
	return nil
}

// readSigner reads the key and the certificate that sign the image. Of several
// certificates it takes the first, as AWS's tools do. It refuses an expired one.
func readSigner(keyFile, certificateFile string, now time.Time) (*eif.Signer, error) {
	certificate, err := os.ReadFile(certificateFile)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	// TLS reads the same PEM forms, and checks that the two belong together.
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: want a certificate and its private key in PEM, the key not encrypted: %w", certificateFile, keyFile, err)
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key of type %T cannot sign", keyFile, pair.PrivateKey)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("%s: expired on %s, and nitro-cli refuses to run such an image; a new certificate makes another PCR8, even for the same key",
			certificateFile, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return &eif.Signer{Key: signer, Certificate: pair.Leaf}, nil
}
