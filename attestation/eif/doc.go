// Package eif reads, measures and writes enclave image files, the form in which
// nitro-cli run-enclave takes an image.
//
// An image's measurements, PCR0, PCR1 and PCR2, are hashes over what it holds, so
// that whoever has the file knows what the attestation documents of its enclaves
// will say, without building it again and without AWS's tools:
//
//	image, err := eif.Read(file)
//	…
//	verifier, err := attestation.NewVerifier(attestation.Policy{
//		Measurements: []attestation.Measurement{image.Measurement()},
//	})
//
// [Read] takes any io.Reader, reads it once, and needs the same memory for an
// image of gigabytes as for one of kilobytes. [Write] makes images, byte for byte
// the same from the same contents, so that a build can be repeated and compared;
// examples/enclave/image makes one of a kernel and a program, ram disks included.
//
// # What is measured
//
// Each register is SHA384(48 zero bytes ‖ SHA384(data)), over the data of
// sections alone, in file order:
//
//	PCR0  kernel, command line, all ram disks
//	PCR1  kernel, command line, the first ram disk
//	PCR2  the other ram disks
//	PCR8  the certificate that signed the image, if one did
//
// There is nothing between one section's data and the next's, so that bytes can
// move from one to another under the same PCR0: compare PCR0, 1 and 2 together,
// as package attestation does. Then nothing can move into or out of the ram disks
// after the first.
//
// The header and the metadata, with the image's name, are in none of them.
//
// # The command line is not pinned
//
// Where the kernel, the command line and the first ram disk end is in no register,
// PCR8 and the image's signature included. Whoever starts the enclave can so give it
// an image with the same PCRs in which the beginning of the command line, or all of
// it, is at the end of the kernel's section, where it does nothing; or whose command
// line is a piece of the first ram disk. QEMU's nitro-enclave machine boots the first,
// and its NSM tells the same PCRs; nothing in the format stands against the second.
//
// So let no security depend on the command line: a lockdown=integrity in it can be
// missing. Build what matters into the kernel (CONFIG_CMDLINE_OVERRIDE), or have the
// program refuse to go on if /proc/cmdline, to which the hypervisor may add, does not
// begin with what it expects. What the program itself depends on belongs into the second
// ram disk, as nitro-cli puts it there.
//
// # What a signature proves
//
// An image may be signed, and Read verifies the signature: with the certificate
// that came in the same file, which anyone can make, in any name. An image that
// was signed by a stranger reads as well as one that you signed. What tells them
// apart is PCR8, if it is compared with the one you expect:
// attestation.SignerPCR(certificate) of the certificate you know.
//
// A key policy or a verifier that names PCR8 accepts releases that do not exist yet.
// It should name PCR1 as well, which updates of the application leave as it is. What is
// signed is PCR0, which does not tell where the first ram disk ends: PCR1 does. It is also
// zero in debug mode. examples/enclave/README.md goes through it, from making the key to
// the key policy.
//
// # What is refused
//
// The format is AWS's, of aws-nitro-enclaves-image-format, whose reader passes
// over much: bytes after the last section, tables that contradict the sections,
// values in reserved fields, a wrong checksum. Builders write none of these, and
// what two readers understand differently serves only deceit, so Read refuses
// them. Every error is an [*Error] whose Reason is a stable string, with the place
// in the file. testdata/vectors has an image for each, for readers in any language.
package eif
