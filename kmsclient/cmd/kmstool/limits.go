package main

import "time"

// Defaults of flags. The port and the region are those of kmstool_enclave_cli.
const (
	defaultPort   = 8000
	defaultRegion = "us-east-1"

	// defaultTimeout leaves time for a second attempt after one that hangs, which
	// takes 30 seconds. The NSM's driver may hang for two minutes.
	defaultTimeout = time.Minute
)

// Lengths in bytes.
const (
	// maxCiphertext and maxRandom are KMS's (KMS API Reference, Decrypt and
	// GenerateRandom).
	maxCiphertext = 6144
	maxRandom     = 1024

	// maxCiphertextFile bounds the file of --ciphertext-file. Base64 adds a third,
	// and line breaks do not double it.
	maxCiphertextFile = 2 * maxCiphertext

	// maxRootsFile bounds the file of --root-cas. All of Mozilla's roots have a
	// quarter of it.
	maxRootsFile = 1 << 20

	// entropySize is how much goes from the NSM into the kernel's pool. The NSM
	// gives that much at once, and it is more than the pool holds.
	entropySize = 256

	// piece is how much of a secret in a row is too much to show. A package may cut
	// short what it quotes, so a message may have less than the whole secret.
	piece = 8
)
