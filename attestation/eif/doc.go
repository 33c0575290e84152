// Package eif reads, measures and writes enclave image files (EIF), which nitro-cli
// run-enclave starts. It refuses an image that no builder writes.
//
// PCR0, PCR1 and PCR2 are hashes over the image's parts. So the file alone tells what
// the attestation documents of its enclaves say, without AWS's tools:
//
//	image, err := eif.Read(file)
//	…
//	verifier, err := attestation.NewVerifier(attestation.Policy{
//		Measurements: []attestation.Measurement{image.Measurement()},
//	})
//
// [Read] takes any io.Reader and reads it once, in memory that does not grow with the
// image. [Write] makes images, the same bytes from the same contents, so that a build
// can be repeated and compared. examples/enclave/image makes one from a kernel and a
// program.
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
// Nothing separates the data of one section from the next, so bytes can move between
// sections under the same PCR0. Compare PCR0, PCR1 and PCR2 together, as package
// attestation does: then nothing can move into or out of the ram disks after the
// first.
//
// No register covers the header and the metadata, which has the image's name.
//
// # The command line is not pinned
//
// No register tells where the kernel, the command line and the first ram disk end.
// PCR8 and the image's signature do not tell either. So whoever starts the enclave can
// change the image under the same PCRs. The command line, or its beginning, can move to
// the end of the kernel's section, where it has no effect: QEMU's nitro-enclave machine
// boots such an image and reports the same PCRs. Or a piece of the first ram disk can
// become the command line; nothing in the format prevents it.
//
// Let no security depend on the command line: a lockdown=integrity in it can be
// missing. Build what matters into the kernel (CONFIG_CMDLINE_OVERRIDE). Or have the
// program stop if /proc/cmdline does not begin with what it expects; the hypervisor may
// append to it. Put what the program depends on into the second ram disk, as nitro-cli
// does.
//
// # What a signature proves
//
// Read verifies an image's signature with the certificate in the same file. Anyone can
// make such a certificate, in any name. Only PCR8 tells your image from a stranger's:
// compare it with [attestation.SignerPCR] of the certificate that you know.
//
// A key policy or verifier that names PCR8 accepts releases that do not exist yet. It
// should name PCR1 as well, which updates of the application do not change. The signature
// is over PCR0, which does not tell where the first ram disk ends; PCR1 does, and it is
// zero in debug mode. examples/enclave/README.md shows each step, from making the key
// to the key policy.
//
// # What is refused
//
// The format is that of AWS's aws-nitro-enclaves-image-format. AWS's reader accepts
// bytes after the last section, tables that contradict the sections, values in reserved
// fields and a wrong checksum. Builders write none of these, and two readers could
// understand them differently, so Read refuses them. Every error is an [*Error] with a
// stable [Reason] and the place in the file. testdata/vectors has an image for each
// Reason, for readers in any language.
package eif
