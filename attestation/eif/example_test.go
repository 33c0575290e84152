package eif_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

// release writes an image into memory. A real one comes from files: an
// io.SectionReader over each, since Write wants their sizes.
func release(application string) *bytes.Buffer {
	var file bytes.Buffer
	_, err := eif.Write(&file, eif.Contents{
		Kernel:   strings.NewReader("a bzImage"),
		Cmdline:  "reboot=k panic=30 pci=off nomodules console=ttyS0",
		Ramdisks: []eif.Source{strings.NewReader("a cpio archive with the init program"), strings.NewReader(application)},
		Metadata: eif.Metadata{ImageName: "shop", ImageVersion: "4.1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	return &file
}

// An image that is written is the same bytes each time, and says what it
// measures.
func ExampleWrite() {
	image, err := eif.Read(release("a cpio archive with the application"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Version, image.Architecture, image.Metadata.ImageName)
	for _, s := range image.Sections {
		fmt.Println(s.Type, s.Size)
	}
	fmt.Println("PCR2", image.PCRs[attestation.PCRApplication].String()[:16])
	// Output:
	// 4 x86_64 shop
	// kernel 9
	// command line 49
	// metadata 191
	// ram disk 36
	// ram disk 35
	// PCR2 801b4cc0f084914c
}

// A relying party accepts the enclaves of an image that it has the file of.
func ExampleImage_Measurement() {
	image, err := eif.Read(release("a cpio archive with the application"))
	if err != nil {
		log.Fatal(err)
	}
	enclave := enclaveOf(image) // a software one: leave Roots out for real ones
	verifier, err := attestation.NewVerifier(attestation.Policy{
		Measurements: []attestation.Measurement{image.Measurement()},
		Roots:        []*x509.Certificate{enclave.Root()},
	})
	if err != nil {
		log.Fatal(err)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	raw, err := nsm.NewSession(enclave).Attest(context.Background(), nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	doc, err := verifier.Verify(raw, attestation.Expect{Nonce: nonce})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.Checked.Measurement, doc.Checked.PCRs)
	// Output: shop 4.1 [0 1 2]
}

// What is no image has a reason, and a place.
func ExampleError() {
	file := release("a cpio archive with the application").Bytes()
	file[len(file)-1] ^= 1
	_, err := eif.Read(bytes.NewReader(file))
	if e, ok := errors.AsType[*eif.Error](err); ok {
		fmt.Println(e.Reason, e.Place, e.Offset)
	}
	// Output: crc eif_crc32 544
}

// enclaveOf is an NSM beside an enclave that runs the image.
func enclaveOf(image *eif.Image) *nsmtest.NSM {
	enclave, err := nsmtest.New(nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
		for index, pcr := range image.PCRs {
			d.PCRs[index] = bytes.Clone(pcr[:])
		}
	}})
	if err != nil {
		log.Fatal(err)
	}
	return enclave
}
