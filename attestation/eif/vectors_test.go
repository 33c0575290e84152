package eif_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"math/big"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/veraison/go-cose"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

var update = flag.Bool("update", false, "write testdata/vectors/images.json anew")

const vectorsFile = "testdata/vectors/images.json"

// vector is an image and what a reader must say of it.
type vector struct {
	Name    string                     `json:"name"`
	Comment string                     `json:"comment,omitempty"`
	Result  string                     `json:"result"` // "accept" or "reject"
	Reason  eif.Reason                 `json:"reason,omitempty"`
	PCRs    map[string]attestation.PCR `json:"pcrs,omitempty"`
	Image   []byte                     `json:"image"` // base64
}

// TestVectors runs the published vectors.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile(vectorsFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	made := makeVectors(t)
	encoded, err := json.MarshalIndent(made, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	encoded = append(encoded, '\n')
	if *update {
		text = encoded
		if err := os.WriteFile(vectorsFile, text, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	// They are made without randomness, so that a change shows.
	if !bytes.Equal(text, encoded) {
		t.Errorf("%s is not what this test makes; if that is meant, run go test -run TestVectors -update", vectorsFile)
	}
	var published []vector
	if err := json.Unmarshal(text, &published); err != nil {
		t.Fatal(err)
	}
	for _, v := range published {
		t.Run(v.Name, func(t *testing.T) {
			image, err := eif.Read(bytes.NewReader(v.Image))
			if v.Result == "reject" {
				if image != nil {
					t.Error("an image beside an error")
				}
				e := hasReason(t, err, v.Reason)
				if text := e.Error(); len(text) > 600 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("the error is not plain: %q", text)
				}
				if e.Offset > int64(len(v.Image)) {
					t.Errorf("byte %d of %d", e.Offset, len(v.Image))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]attestation.PCR{}
			for i, pcr := range image.PCRs {
				got[fmt.Sprintf("PCR%d", i)] = pcr
			}
			if diff := cmp.Diff(v.PCRs, got); diff != "" {
				t.Errorf("the PCRs (-want +got):\n%s", diff)
			}
		})
	}
}

// notOfImages are the reasons of failures that are not an image's.
var notOfImages = []eif.Reason{eif.ReasonRead, eif.ReasonWrite, eif.ReasonInvalidContents, eif.ReasonSourceChanged}

func TestEveryReasonHasAVector(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("testdata/vectors/README.md")
	if err != nil {
		t.Fatal(err)
	}
	count := map[eif.Reason]int{}
	for _, v := range makeVectors(t) {
		count[v.Reason]++
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "Reason" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		reason := eif.Reason(text)
		if slices.Contains(notOfImages, reason) {
			return true
		}
		if count[reason] == 0 {
			t.Errorf("no vector has the reason %q", reason)
		}
		if !strings.Contains(string(readme), "| `"+text+"` |") {
			t.Errorf("the README does not explain the reason %q", reason)
		}
		return true
	})
	if found < 20 {
		t.Errorf("only %d reasons found", found)
	}
}

// fixedSigner makes a signer that is the same each time.
func fixedSigner(t testing.TB, curve elliptic.Curve) *eif.Signer {
	t.Helper()
	seed := sha512.Sum512([]byte("keyvouch test vectors"))
	seed[0] = 0 // below the order of each curve
	scalar := make([]byte, (curve.Params().BitSize+7)/8)
	copy(scalar[1:], seed[1:])
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "image signer"},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(4_000_000_000, 0),
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key) // nil: RFC 6979
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &eif.Signer{Key: key, Certificate: certificate}
}

const vectorMetadata = `{"ImageName":"shop","ImageVersion":"4.1","BuildMetadata":{"BuildTime":"","BuildTool":"","BuildToolVersion":"","OperatingSystem":"","KernelVersion":""},"DockerInfo":null}`

func makeVectors(t testing.TB) []vector {
	var all []vector
	accept := func(name, comment string, image []byte, pcr0, pcr1, pcr2 string, certificate []byte) {
		v := vector{Name: name, Comment: comment, Result: "accept", Image: image, PCRs: map[string]attestation.PCR{
			"PCR0": measured(pcr0), "PCR1": measured(pcr1), "PCR2": measured(pcr2),
		}}
		if certificate != nil {
			v.PCRs["PCR8"] = measured(string(certificate))
		}
		all = append(all, v)
	}
	reject := func(reason eif.Reason, name, comment string, image []byte) {
		all = append(all, vector{Name: name, Comment: comment, Result: "reject", Reason: reason, Image: image})
	}
	var (
		kernel   = section{eif.Kernel, "K"}
		cmdline  = section{eif.Cmdline, "C"}
		metadata = section{eif.MetadataJSON, vectorMetadata}
		first    = section{eif.Ramdisk, "first"}
		second   = section{eif.Ramdisk, "second"}
	)
	good := assemble(4, kernel, cmdline, metadata, first, second)

	accept("version 4", "as builders set it", good, "KCfirstsecond", "KCfirst", "second", nil)
	accept("one ram disk", "PCR0 and PCR1 are equal, PCR2 is of nothing", assemble(4, kernel, cmdline, metadata, first), "KCfirst", "KCfirst", "", nil)
	accept("aarch64", "", set16(good, atFlags, 1), "KCfirstsecond", "KCfirst", "second", nil)
	accept("version 2", "", assemble(2, kernel, cmdline, first, second), "KCfirstsecond", "KCfirst", "second", nil)
	accept("version 3, unsigned", "", assemble(3, kernel, cmdline, first, second), "KCfirstsecond", "KCfirst", "second", nil)
	accept("metadata last", "the order of what isn't measured doesn't matter", assemble(4, kernel, cmdline, first, second, metadata), "KCfirstsecond", "KCfirst", "second", nil)
	accept("command line first", "hashed in file order", assemble(4, cmdline, kernel, metadata, first, second), "CKfirstsecond", "CKfirst", "second", nil)
	accept("command line last", "hashed in file order", assemble(4, kernel, metadata, first, second, cmdline), "KfirstsecondC", "KfirstC", "second", nil)
	accept("command line between ram disks", "hashed in file order", assemble(4, kernel, metadata, first, cmdline, second), "KfirstCsecond", "KfirstC", "second", nil)
	accept("empty command line and ram disks", "", assemble(4, kernel, section{eif.Cmdline, ""}, metadata, section{eif.Ramdisk, ""}, section{eif.Ramdisk, ""}), "K", "K", "", nil)
	many := []section{kernel, cmdline, metadata}
	var disks string
	for i := range eif.MaxSections - len(many) {
		many = append(many, section{eif.Ramdisk, strconv.Itoa(i)})
		disks += strconv.Itoa(i)
	}
	accept("32 sections", "", assemble(4, many...), "KC"+disks, "KC0", disks[1:], nil)
	accept("bytes moved to the first ram disk", "PCR0 is that of the first vector, PCR1 and PCR2 aren't", assemble(4, kernel, cmdline, metadata, section{eif.Ramdisk, "firsts"}, section{eif.Ramdisk, "econd"}), "KCfirstsecond", "KCfirsts", "econd", nil)
	accept("command line moved to the kernel", "PCR0, PCR1 and PCR2 are all those of the first vector: nothing measures where the kernel ends", assemble(4, section{eif.Kernel, "KC"}, section{eif.Cmdline, ""}, metadata, first, second), "KCfirstsecond", "KCfirst", "second", nil)
	accept("command line of the first ram disk", "PCR0, PCR1 and PCR2 are all those of the first vector", assemble(4, section{eif.Kernel, "KC"}, section{eif.Cmdline, "fi"}, metadata, section{eif.Ramdisk, "rst"}, second), "KCfirstsecond", "KCfirst", "second", nil)
	accept("other metadata", "not measured", assemble(4, kernel, cmdline, section{eif.MetadataJSON,
		`{"Other": [1], "DockerInfo":{"a":{}}, "CustomMetadata":{"b":1}, "ImageVersion":"", "ImageName":"", "BuildMetadata":{"KernelVersion":"","OperatingSystem":"","BuildToolVersion":"","BuildTool":"","BuildTime":""}}`}, first, second), "KCfirstsecond", "KCfirst", "second", nil)

	// The header.
	reject(eif.ReasonTruncated, "empty", "", nil)
	reject(eif.ReasonTruncated, "half the magic", "", []byte(".e"))
	reject(eif.ReasonMagic, "another magic", "", append([]byte("\x7fELF"), good[4:]...))
	reject(eif.ReasonMagic, "little-endian magic", "", append([]byte("fie."), good[4:]...))
	reject(eif.ReasonTruncated, "half a header", "", good[:300])
	reject(eif.ReasonTruncated, "header only", "", good[:eif.HeaderSize])
	for _, v := range []uint16{0, 1, 5, 0x0400, 65535} {
		reject(eif.ReasonVersion, fmt.Sprintf("version %d", v), "", set16(good, atVersion, v))
	}
	for _, n := range []uint16{0, 1, 33, 65535} {
		reject(eif.ReasonSectionCount, fmt.Sprintf("%d sections", n), "", set16(good, atNumSections, n))
	}
	reject(eif.ReasonReserved, "a reserved flag", "", set16(good, atFlags, 2))
	reject(eif.ReasonReserved, "the first reserved field", "", set16(good, atReserved, 1))
	reject(eif.ReasonReserved, "the second reserved field", "", set16(good, atUnused+2, 1))
	reject(eif.ReasonReserved, "an offset of no section", "", set64(good, atOffsets+8*5, 1))
	reject(eif.ReasonReserved, "a size of no section", "", set64(good, atSizes+8*31, 1))
	reject(eif.ReasonReserved, "flags of a section", "", set16(good, eif.HeaderSize+2, 1))
	reject(eif.ReasonSectionTable, "an offset that is off by one", "", set64(good, atOffsets+8, uint64(eif.HeaderSize+eif.SectionHeaderSize+2)))
	reject(eif.ReasonSectionTable, "an offset of the data", "instead of the section's header", set64(good, atOffsets, uint64(eif.HeaderSize+eif.SectionHeaderSize)))
	reject(eif.ReasonSectionTable, "a size that is off by one", "", set64(good, atSizes+8, 2))
	reject(eif.ReasonSectionTable, "a size with the section's header", "", set64(good, atSizes, 1+eif.SectionHeaderSize))

	// The sections.
	for _, kind := range []eif.SectionType{0, 6, 0x0100, 65535} {
		reject(eif.ReasonSectionType, fmt.Sprintf("section of type %d", kind), "", assemble(4, kernel, cmdline, metadata, first, section{kind, "x"}))
	}
	reject(eif.ReasonSectionType, "metadata in version 3", "", assemble(3, kernel, cmdline, metadata, first))
	reject(eif.ReasonSectionType, "signature in version 2", "", assemble(2, kernel, cmdline, first, section{eif.SignatureData, "\x80"}))
	for _, size := range []uint64{1<<40 + 1, 1 << 63, 1<<64 - 1} {
		huge := set64(good, atSizes, size)
		huge = set64(huge, eif.HeaderSize+4, size)
		reject(eif.ReasonSectionSize, fmt.Sprintf("kernel of %d bytes", size), "", huge)
	}
	reject(eif.ReasonTruncated, "kernel that ends early", "", set64(set64(good, atSizes, 1<<30), eif.HeaderSize+4, 1<<30))
	reject(eif.ReasonSectionSize, "empty kernel", "", assemble(4, section{eif.Kernel, ""}, cmdline, metadata, first))
	long := func(kind eif.SectionType, size uint64) []byte {
		image := assemble(4, kernel, section{kind, ""})
		at := eif.HeaderSize + eif.SectionHeaderSize + 1
		image = set64(image, at+4, size)
		return set64(image, atSizes+8, size)
	}
	reject(eif.ReasonSectionSize, "long command line", "announced; over 64 KiB", long(eif.Cmdline, eif.MaxCmdlineSize+1))
	reject(eif.ReasonSectionSize, "long metadata", "announced; over 1 MiB", long(eif.MetadataJSON, eif.MaxMetadataSize+1))
	reject(eif.ReasonSectionSize, "long signature", "announced; over 32768 bytes", long(eif.SignatureData, eif.MaxSignatureSize+1))
	reject(eif.ReasonSectionOrder, "ram disk before the kernel", "", assemble(4, first, kernel, cmdline, metadata, second))
	reject(eif.ReasonSectionDuplicate, "two kernels", "", assemble(4, kernel, kernel, cmdline, metadata, first))
	reject(eif.ReasonSectionDuplicate, "two command lines", "", assemble(4, kernel, cmdline, cmdline, metadata, first))
	reject(eif.ReasonSectionDuplicate, "two metadata", "", assemble(4, kernel, cmdline, metadata, metadata, first))
	reject(eif.ReasonSectionMissing, "no kernel", "", assemble(4, cmdline, metadata))
	reject(eif.ReasonSectionMissing, "no command line", "", assemble(4, kernel, metadata, first))
	reject(eif.ReasonSectionMissing, "no ram disk", "", assemble(4, kernel, cmdline, metadata))
	reject(eif.ReasonSectionMissing, "no metadata", "", assemble(4, kernel, cmdline, first))
	reject(eif.ReasonTruncated, "half a section header", "", good[:len(good)-len(second.data)-5])
	reject(eif.ReasonTruncated, "one byte short", "", good[:len(good)-1])
	reject(eif.ReasonTrailingBytes, "a byte too many", "", resum(append(bytes.Clone(good), 0)))
	reject(eif.ReasonTrailingBytes, "a section too many", "the header doesn't count it; AWS's reader would measure it", set64(set64(set16(good, atNumSections, 4), atOffsets+8*4, 0), atSizes+8*4, 0))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	reject(eif.ReasonCRC, "a bit of a ram disk", "", flipped)
	flipped = bytes.Clone(good)
	flipped[atCRC] ^= 1
	reject(eif.ReasonCRC, "a bit of the checksum", "", flipped)
	flipped = bytes.Clone(good)
	flipped[15] ^= 1 // of default_mem, which nothing else covers
	reject(eif.ReasonCRC, "a bit of the header", "", flipped)
	whole := bytes.Clone(good)
	binary.BigEndian.PutUint32(whole[atCRC:], 0)
	reject(eif.ReasonCRC, "no checksum", "", whole)

	// The metadata.
	for name, text := range map[string]string{
		"no JSON":                "ImageName",
		"empty":                  "",
		"an array":               "[]",
		"null":                   "null",
		"two values":             vectorMetadata + "{}",
		"a zero byte after":      vectorMetadata + "\x00",
		"not UTF-8":              strings.Replace(vectorMetadata, "shop", "\xff", 1),
		"no ImageName":           strings.Replace(vectorMetadata, `"ImageName":"shop",`, "", 1),
		"lower-case imagename":   strings.Replace(vectorMetadata, `ImageName`, "imagename", 1),
		"two ImageNames":         strings.Replace(vectorMetadata, `{"ImageName"`, `{"ImageName":"a","ImageName"`, 1),
		"ImageName a number":     strings.Replace(vectorMetadata, `"shop"`, "1", 1),
		"ImageVersion null":      strings.Replace(vectorMetadata, `"4.1"`, "null", 1),
		"no BuildTool":           strings.Replace(vectorMetadata, `"BuildTool":"",`, "", 1),
		"BuildMetadata a string": `{"ImageName":"","ImageVersion":"","BuildMetadata":"","DockerInfo":null}`,
		"no DockerInfo":          strings.Replace(vectorMetadata, `,"DockerInfo":null`, "", 1),
		"DockerInfo a string":    strings.Replace(vectorMetadata, `null`, `""`, 1),
		"nested too deep":        strings.Replace(vectorMetadata, `null`, `{"a":`+strings.Repeat("[", 10_001)+strings.Repeat("]", 10_001)+`}`, 1),
	} {
		reject(eif.ReasonMetadata, "metadata: "+name, "", assemble(4, kernel, cmdline, section{eif.MetadataJSON, text}, first))
	}

	// The signature.
	unsigned := []section{kernel, cmdline, metadata, first, second}
	with := func(data []byte) []byte {
		return assemble(4, append(slices.Clone(unsigned), section{eif.SignatureData, string(data)})...)
	}
	pcr0 := measured("KCfirstsecond")
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		signer := fixedSigner(t, curve)
		s := signing{signer: signer, pcr0: pcr0}
		accept("signed on "+curve.Params().Name, "", with(s.section(t)), "KCfirstsecond", "KCfirst", "second", signer.Certificate.Raw)
	}
	signer := fixedSigner(t, elliptic.P384())
	s := signing{signer: signer, pcr0: pcr0}
	text := string(pemOf(signer.Certificate))
	der := signer.Certificate.Raw
	accept("signed, version 3", "", assemble(3, kernel, cmdline, first, second, section{eif.SignatureData, string(s.section(t))}), "KCfirstsecond", "KCfirst", "second", der)
	accept("signed, signature first", "", assemble(4, append([]section{{eif.SignatureData, string(s.section(t))}}, unsigned...)...), "KCfirstsecond", "KCfirst", "second", der)
	accept("signed, a signature's size in the header is another's", "as AWS's tool leaves it when it signs a signed image anew", set64(with(s.section(t)), atSizes+8*5, 1000), "KCfirstsecond", "KCfirst", "second", der)
	chain := s
	chain.pem = text + string(pemOf(fixedSigner(t, elliptic.P256()).Certificate))
	accept("signed, a chain of certificates", "the first counts", with(chain.section(t)), "KCfirstsecond", "KCfirst", "second", der)
	explained := s
	explained.pem = "Certificate of the image signer:\r\n" + strings.ReplaceAll(text, "\n", "\r\n")
	accept("signed, text before the certificate", "as openssl x509 -text writes", with(explained.section(t)), "KCfirstsecond", "KCfirst", "second", der)

	for _, c := range []struct {
		reason  eif.Reason
		name    string
		comment string
		change  func(s *signing)
	}{
		{eif.ReasonSignaturePayload, "of another PCR0", "the image was altered, and its checksum with it", func(s *signing) { s.pcr0[0] ^= 1 }},
		{eif.ReasonSignaturePayload, "of PCR1", "", func(s *signing) { s.index = 1 }},
		{eif.ReasonSignaturePayload, "of a byte string", "in place of an array of integers", func(s *signing) {
			s.payload = sorted(map[string]any{"register_index": 0, "register_value": pcr0[:]})
		}},
		{eif.ReasonSignaturePayload, "of the bare PCR0", "", func(s *signing) { s.payload = pcr0[:] }},
		{eif.ReasonSignatureAlgorithm, "ES256 with a key on P-384", "", func(s *signing) { s.algorithm = cose.AlgorithmES256 }},
		{eif.ReasonSignatureAlgorithm, "ES512 with a key on P-384", "", func(s *signing) { s.algorithm = cose.AlgorithmES512 }},
		{eif.ReasonSignatureAlgorithm, "RSA's PS384", "", func(s *signing) { s.algorithm = cose.AlgorithmPS384 }},
		{eif.ReasonSignature, "of another key", "", func(s *signing) { s.signer = &eif.Signer{Key: otherKey(t), Certificate: s.signer.Certificate} }},
		{eif.ReasonSignature, "a bit flipped", "", func(s *signing) { s.edit = func(cose []byte) []byte { cose[len(cose)-1] ^= 1; return cose } }},
		{eif.ReasonSignature, "all zero", "", func(s *signing) { s.edit = func(cose []byte) []byte { clear(cose[len(cose)-96:]); return cose } }},
		{eif.ReasonSignatureMalformed, "an unprotected header", "", func(s *signing) { s.unprotected = cose.UnprotectedHeader{int64(4): []byte("kid")} }},
		{eif.ReasonSignatureMalformed, "a second protected header", "", func(s *signing) { s.protected = cose.ProtectedHeader{int64(4): []byte("kid")} }},
		{eif.ReasonSignatureMalformed, "tagged", "18, COSE_Sign1", func(s *signing) { s.edit = func(cose []byte) []byte { return append([]byte{0xd2}, cose...) } }},
		{eif.ReasonSignatureMalformed, "bytes after the COSE_Sign1", "", func(s *signing) { s.edit = func(cose []byte) []byte { return append(cose, 0) } }},
		{eif.ReasonSignatureMalformed, "a COSE_Sign1 cut short", "", func(s *signing) { s.edit = func(cose []byte) []byte { return cose[:len(cose)-1] } }},
		{eif.ReasonSignatureMalformed, "no COSE_Sign1", "", func(s *signing) { s.edit = func([]byte) []byte { return nil } }},
		{eif.ReasonSignatureCertificate, "no PEM", "the DER itself", func(s *signing) { s.pem = string(der) }},
		{eif.ReasonSignatureCertificate, "no certificate", "", func(s *signing) { s.pem = "PEM" }},
		{eif.ReasonSignatureCertificate, "PEM of a key", "", func(s *signing) { s.pem = strings.ReplaceAll(text, "CERTIFICATE", "PUBLIC KEY") }},
		{eif.ReasonSignatureCertificate, "PEM of no certificate", "", func(s *signing) { s.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[1:]})) }},
		{eif.ReasonSignatureCertificate, "damaged PEM before a certificate", "which decoder skips it is a question of the decoder", func(s *signing) { s.pem = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n" + text }},
		{eif.ReasonSignatureCertificate, "a certificate that begins within a line", "OpenSSL passes over it and takes the next", func(s *signing) { s.pem = "x" + text + string(pemOf(fixedSigner(t, elliptic.P521()).Certificate)) }},
		{eif.ReasonSignatureCertificate, "a certificate on P-224", "", func(s *signing) { s.pem = string(pemOf(fixedSigner(t, elliptic.P224()).Certificate)) }},
	} {
		s := s
		c.change(&s)
		reject(c.reason, "signature: "+c.name, c.comment, with(s.section(t)))
	}

	entry := s.section(t)[1:] // without the head of the array of one
	reject(eif.ReasonSignatureMalformed, "signature section: empty", "", with(nil))
	reject(eif.ReasonSignatureMalformed, "signature section: no signatures", "an empty array", with([]byte{0x80}))
	reject(eif.ReasonSignatureMalformed, "signature section: two signatures", "the second wouldn't count", with(slices.Concat([]byte{0x82}, entry, entry)))
	reject(eif.ReasonSignatureMalformed, "signature section: no array", "the map alone", with(entry))
	reject(eif.ReasonSignatureMalformed, "signature section: indefinite length", "", with(slices.Concat([]byte{0x9f}, entry, []byte{0xff})))
	reject(eif.ReasonSignatureMalformed, "signature section: length not in its shortest form", "", with(slices.Concat([]byte{0x98, 1}, entry)))
	reject(eif.ReasonSignatureMalformed, "signature section: bytes after", "", with(slices.Concat([]byte{0x81}, entry, []byte{0})))
	reject(eif.ReasonSignatureMalformed, "signature section: an array bomb", "2^32 elements announced", with([]byte{0x9a, 0xff, 0xff, 0xff, 0xff}))
	strung := sorted([]any{map[string]any{"signing_certificate": []byte(text), "signature": []byte{1}}})
	reject(eif.ReasonSignatureMalformed, "signature section: byte strings", "in place of arrays of integers", with(strung))
	reject(eif.ReasonSignatureMalformed, "signature section: an integer over 255", "", with(sorted([]any{map[string]any{"signing_certificate": []int{256}, "signature": []int{1}}})))
	reject(eif.ReasonSignatureMalformed, "signature section: a third member", "", with(append(slices.Concat([]byte{0x81, 0xa3}, entry[1:]), 0x61, 'x', 0)))
	reject(eif.ReasonSignatureMalformed, "signature section: a member that clears the terminal", "which must not reach it", with(sorted([]any{map[string]any{"\x1b[2J" + strings.Repeat("a", 1000): 0}})))
	reject(eif.ReasonSignatureMalformed, "signature section: a member twice", "", with(slices.Concat([]byte{0x81, 0xa4}, entry[1:], entry[1:])))
	reject(eif.ReasonSectionDuplicate, "two signature sections", "", assemble(4, append(slices.Clone(unsigned), section{eif.SignatureData, string(s.section(t))}, section{eif.SignatureData, string(s.section(t))})...))
	reject(eif.ReasonSectionTable, "a signature's size in the header is over its limit", "", set64(with(s.section(t)), atSizes+8*5, eif.MaxSignatureSize+1))

	slices.SortStableFunc(all, func(a, b vector) int { // maps have no order
		if strings.HasPrefix(a.Name, "metadata: ") && strings.HasPrefix(b.Name, "metadata: ") {
			return strings.Compare(a.Name, b.Name)
		}
		return 0
	})
	return all
}

// signing makes a signature section, right unless it is told otherwise.
type signing struct {
	signer      *eif.Signer
	pcr0        attestation.PCR
	index       int
	payload     []byte
	algorithm   cose.Algorithm
	protected   cose.ProtectedHeader
	unprotected cose.UnprotectedHeader
	edit        func(cose []byte) []byte
	pem         string
}

func (s signing) section(t testing.TB) []byte {
	t.Helper()
	payload := s.payload
	if payload == nil {
		type register struct {
			Index int      `cbor:"register_index"`
			Value []uint16 `cbor:"register_value"`
		}
		payload = must(cbor.Marshal(register{s.index, numbers(s.pcr0[:])}))
	}
	algorithm := map[elliptic.Curve]cose.Algorithm{
		elliptic.P256(): cose.AlgorithmES256, elliptic.P384(): cose.AlgorithmES384, elliptic.P521(): cose.AlgorithmES512,
	}[s.signer.Key.Public().(*ecdsa.PublicKey).Curve]
	if s.algorithm != 0 {
		algorithm = s.algorithm
	}
	protected := cose.ProtectedHeader{cose.HeaderLabelAlgorithm: algorithm}
	for label, value := range s.protected {
		protected[label] = value
	}
	message := must(cose.Sign1Untagged(nil, deterministic{s.signer, algorithm}, cose.Headers{Protected: protected, Unprotected: s.unprotected}, payload, nil))
	if s.edit != nil {
		message = s.edit(message)
	}
	text := s.pem
	if text == "" {
		text = string(pemOf(s.signer.Certificate))
	}
	type entry struct {
		Certificate []uint16 `cbor:"signing_certificate"`
		Signature   []uint16 `cbor:"signature"`
	}
	return must(cbor.Marshal([]entry{{numbers([]byte(text)), numbers(message)}}))
}

// deterministic signs by RFC 6979, with the hash of the key's curve whatever the
// algorithm it claims.
type deterministic struct {
	signer    *eif.Signer
	algorithm cose.Algorithm
}

func (d deterministic) Algorithm() cose.Algorithm { return d.algorithm }

func (d deterministic) Sign(_ io.Reader, content []byte) ([]byte, error) {
	key := d.signer.Key.(*ecdsa.PrivateKey)
	hash := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[key.Params().BitSize]
	h := hash.New()
	h.Write(content)
	der, err := key.Sign(nil, h.Sum(nil), hash)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, err
	}
	size := (key.Params().BitSize + 7) / 8
	return append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...), nil
}

// otherKey is on the curve of the signer's, and not in its certificate.
func otherKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	seed := sha512.Sum384([]byte("another key"))
	seed[0] = 0
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func numbers(b []byte) []uint16 {
	n := make([]uint16, len(b))
	for i := range b {
		n[i] = uint16(b[i])
	}
	return n
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// sorted encodes maps in one order.
func sorted(v any) []byte {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return must(mode.Marshal(v))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
