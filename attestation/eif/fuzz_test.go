package eif_test

import (
	"bytes"
	"crypto/elliptic"
	"errors"
	"io"
	"maps"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

// Whatever the file, Read answers with an image or an error with a reason, and
// little memory. What it accepts, Write makes again, with the same measurements.
func FuzzRead(f *testing.F) {
	for _, v := range makeVectors(f) {
		f.Add(v.Image)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		checkRead(t, file)
		// Nothing but luck would find the checksum of what was mutated.
		checkRead(t, resum(bytes.Clone(file)))
	})
}

// FuzzSignature has an image whose only flaw may be its signature section.
func FuzzSignature(f *testing.F) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		f.Add(signing{signer: fixedSigner(f, curve), pcr0: measured("KCR")}.section(f))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		checkRead(t, assemble(3, section{eif.Kernel, "K"}, section{eif.Cmdline, "C"}, section{eif.Ramdisk, "R"}, section{eif.SignatureData, string(data)}))
	})
}

// FuzzMetadata has an image whose only flaw may be its metadata.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte(vectorMetadata))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkRead(t, assemble(4, section{eif.Kernel, "K"}, section{eif.Cmdline, "C"}, section{eif.Ramdisk, "R"}, section{eif.MetadataJSON, string(data)}))
	})
}

func checkRead(t *testing.T, file []byte) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	image, err := eif.Read(bytes.NewReader(file))
	runtime.ReadMemStats(&after)
	// A chunk, and what JSON and CBOR make of their sections.
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+200*len(file)); got > limit {
		t.Errorf("%d bytes allocated for a file of %d", got, len(file))
	}
	if err != nil {
		if e, ok := errors.AsType[*eif.Error](err); !ok || e.Reason == "" || e.Reason == eif.ReasonRead || image != nil {
			t.Fatalf("%v beside %v", image, err)
		}
		return
	}
	if image.Size != int64(len(file)) {
		t.Errorf("%d bytes of %d", image.Size, len(file))
	}
	rewrite(t, file, image)
}

// rewrite takes an image apart and makes one of its parts.
func rewrite(t *testing.T, file []byte, image *eif.Image) {
	t.Helper()
	c := eif.Contents{
		Architecture: image.Architecture, DefaultMemory: image.DefaultMemory, DefaultCPUs: image.DefaultCPUs, Cmdline: image.Cmdline,
	}
	if image.Metadata != nil {
		c.Metadata = *image.Metadata
	}
	var measuredOrder []eif.SectionType
	for _, s := range image.Sections {
		data := io.NewSectionReader(bytes.NewReader(file), s.Offset, s.Size)
		switch s.Type {
		case eif.Kernel:
			c.Kernel = data
		case eif.Ramdisk:
			c.Ramdisks = append(c.Ramdisks, data)
		case eif.Cmdline:
		default:
			continue
		}
		measuredOrder = append(measuredOrder, s.Type)
	}
	if measuredOrder[0] != eif.Kernel || measuredOrder[1] != eif.Cmdline ||
		bytes.IndexByte([]byte(c.Cmdline), 0) >= 0 || len(c.Ramdisks) > eif.MaxSections-3 {
		return // Write makes no such images
	}
	var again bytes.Buffer
	written, err := eif.Write(&again, c)
	if err != nil {
		// JSON that grows, as < becomes six characters, can grow over the limit.
		if e, ok := errors.AsType[*eif.Error](err); ok && e.Field == "Metadata" && len(file) > eif.MaxMetadataSize/8 {
			return
		}
		t.Fatal(err)
	}
	want := maps.Clone(image.PCRs)
	delete(want, attestation.PCRSigner) // there is no key to sign it again
	if !maps.Equal(want, written.PCRs) {
		t.Errorf("%v becomes %v", want, written.PCRs)
	}
	reread, err := eif.Read(bytes.NewReader(again.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(written, reread); diff != "" {
		t.Errorf("Write says (-) other than Read (+):\n%s", diff)
	}
	var third bytes.Buffer
	if _, err := eif.Write(&third, c); err != nil || !bytes.Equal(third.Bytes(), again.Bytes()) {
		t.Errorf("the same contents make two files, %v", err)
	}
}

// Whatever Write takes, Read reads, and it measures by the formula.
func FuzzWrite(f *testing.F) {
	signer := fixedSigner(f, elliptic.P256())
	f.Add([]byte("kernel"), "console=ttyS0", []byte("init"), []byte("application"), uint8(1), "shop", `{"a": 1}`, true)
	f.Add([]byte("k"), "", []byte{}, []byte{}, uint8(0), "", "", false)
	f.Add([]byte("k"), "\x00", []byte{}, []byte{}, uint8(29), "<\u2028>", "null", true)
	f.Fuzz(func(t *testing.T, kernel []byte, cmdline string, first, other []byte, others uint8, name, custom string, sign bool) {
		c := eif.Contents{
			Kernel: bytes.NewReader(kernel), Cmdline: cmdline, Ramdisks: []eif.Source{bytes.NewReader(first)},
			Metadata: eif.Metadata{ImageName: name, CustomMetadata: []byte(custom)},
		}
		rest := bytes.Repeat(other, int(others))
		for range others {
			c.Ramdisks = append(c.Ramdisks, bytes.NewReader(other))
		}
		if sign {
			c.Signer = signer
		}
		var file bytes.Buffer
		written, err := eif.Write(&file, c)
		if err != nil {
			if hasReason(t, err, eif.ReasonInvalidContents); written != nil || file.Len() > 0 {
				t.Errorf("%d bytes and %v beside %v", file.Len(), written, err)
			}
			return
		}
		image := read(t, file.Bytes())
		if diff := cmp.Diff(written, image); diff != "" {
			t.Errorf("Write says (-) other than Read (+):\n%s", diff)
		}
		want := map[int]attestation.PCR{
			0: measured(string(kernel), cmdline, string(first), string(rest)),
			1: measured(string(kernel), cmdline, string(first)),
			2: measured(string(rest)),
		}
		if sign {
			want[8] = attestation.SignerPCR(signer.Certificate)
		}
		if !maps.Equal(want, image.PCRs) {
			t.Errorf("the PCRs are %v, not %v", image.PCRs, want)
		}
		if !slices.Equal(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(image.Measurement().PCRs))) {
			t.Errorf("the measurement has other registers: %v", image.Measurement())
		}
	})
}
