package eif_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

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
		fmt.Println(e.Reason, e.Field, e.Offset)
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

// An image is signed with a key and its certificate, and PCR8 is that certificate's:
// whoever knows the certificate knows the PCR8 of all images signed with it, of
// those to come as well. A real key comes from a file, by way of tls.X509KeyPair, or
// stays in an HSM.
func ExampleSigner() {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "image signer of the shop"},
		NotBefore:    now, NotAfter: now.AddDate(2, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		log.Fatal(err)
	}

	var file bytes.Buffer
	_, err = eif.Write(&file, eif.Contents{
		Kernel:   strings.NewReader("a bzImage"),
		Cmdline:  "reboot=k panic=30 pci=off nomodules console=ttyS0",
		Ramdisks: []eif.Source{strings.NewReader("a cpio archive with the init program"), strings.NewReader("one with the application")},
		Signer:   &eif.Signer{Key: key, Certificate: certificate},
	})
	if err != nil {
		log.Fatal(err)
	}

	image, err := eif.Read(&file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Signature.Algorithm, "by", image.Signature.Certificate.Subject.CommonName)
	fmt.Println("PCR8 is the certificate's:", image.PCRs[attestation.PCRSigner] == attestation.SignerPCR(certificate))
	fmt.Println("a verifier compares PCRs", slices.Sorted(maps.Keys(image.Measurement().PCRs)))
	// Output:
	// ES384 by image signer of the shop
	// PCR8 is the certificate's: true
	// a verifier compares PCRs [0 1 2 8]
}
