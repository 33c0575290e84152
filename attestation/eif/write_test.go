package eif_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/sha512"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

// noSecondRamdisk is PCR2 of every image with one ram disk, as documents of real
// enclaves have it.
const noSecondRamdisk = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"

// measured is the specification's formula, over the whole at once.
func measured(parts ...string) attestation.PCR {
	digest := sha512.Sum384([]byte(strings.Join(parts, "")))
	return sha512.Sum384(append(make([]byte, 48), digest[:]...))
}

func TestWriteAndRead(t *testing.T) {
	for _, curve := range []elliptic.Curve{nil, elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		c := contents()
		want := map[int]attestation.PCR{
			0: measured("kernel", c.Cmdline, "init", "application"),
			1: measured("kernel", c.Cmdline, "init"),
			2: measured("application"),
		}
		name := "unsigned"
		if curve != nil {
			name = curve.Params().Name
			c.Signer = newSigner(t, curve)
			want[8] = measured(string(c.Signer.Certificate.Raw))
		}
		t.Run(name, func(t *testing.T) {
			file, written := write(t, c)
			image := read(t, file)
			if diff := cmp.Diff(written, image); diff != "" {
				t.Errorf("Write says (-) other than Read (+):\n%s", diff)
			}
			if diff := cmp.Diff(want, image.PCRs); diff != "" {
				t.Errorf("the PCRs (-want +got):\n%s", diff)
			}
			if image.Size != int64(len(file)) || image.Cmdline != c.Cmdline {
				t.Errorf("%d bytes, command line %q", image.Size, image.Cmdline)
			}
			if diff := cmp.Diff(&c.Metadata, image.Metadata); diff != "" {
				t.Errorf("the metadata (-want +got):\n%s", diff)
			}
			if again, _ := write(t, c); !bytes.Equal(again, file) {
				t.Error("the same contents make two files")
			}
		})
	}
}

// PCRs of one ram disk, of several, and of several larger than a chunk.
func TestMeasurements(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 40_000)
	for _, ramdisks := range [][]string{{"init"}, {"init", ""}, {"init", "a", "b"}, {large, large[1:], "b", large[2:]}} {
		c := contents()
		c.Ramdisks = nil
		for _, r := range ramdisks {
			c.Ramdisks = append(c.Ramdisks, strings.NewReader(r))
		}
		file, _ := write(t, c)
		want := map[int]attestation.PCR{
			0: measured("kernel", c.Cmdline, strings.Join(ramdisks, "")),
			1: measured("kernel", c.Cmdline, ramdisks[0]),
			2: measured(ramdisks[1:]...),
		}
		got := read(t, file).PCRs
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d ram disks (-want +got):\n%s", len(ramdisks), diff)
		}
		if len(ramdisks) == 1 && got[2].String() != noSecondRamdisk {
			t.Errorf("PCR2 without a second ram disk is %v", got[2])
		}
	}
}

// The defaults of AWS's builder, and the order of its sections.
func TestLayout(t *testing.T) {
	c := contents()
	_, image := write(t, c)
	if image.Version != 4 || image.Architecture != eif.X86_64 || image.DefaultMemory != 1<<30 || image.DefaultCPUs != 2 {
		t.Errorf("%+v", image)
	}
	var order []eif.SectionType
	for _, s := range image.Sections {
		order = append(order, s.Type)
	}
	if want := []eif.SectionType{eif.Kernel, eif.Cmdline, eif.MetadataJSON, eif.Ramdisk, eif.Ramdisk}; !slices.Equal(order, want) {
		t.Errorf("the sections are %v, not %v", order, want)
	}
	c.Architecture, c.DefaultMemory, c.DefaultCPUs = eif.AArch64, 512<<20, 4
	file, _ := write(t, c)
	image = read(t, file)
	if image.Architecture != eif.AArch64 || image.DefaultMemory != 512<<20 || image.DefaultCPUs != 4 {
		t.Errorf("%+v", image)
	}
}

// failing is a Source that changes after its first reading.
type failing struct {
	*strings.Reader
	reads  int
	change func(b []byte, n int, err error) (int, error)
}

func (f *failing) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.Reader.ReadAt(b, off)
	if f.reads++; f.reads > 1 {
		return f.change(b, n, err)
	}
	return n, err
}

// brokenKey signs something else.
type brokenKey struct{ crypto.Signer }

func (k brokenKey) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return k.Signer.Sign(r, make([]byte, len(digest)), o)
}

func TestWriteRefuses(t *testing.T) {
	signer, other := newSigner(t, elliptic.P384()), newSigner(t, elliptic.P384())
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		change func(c *eif.Contents)
		reason eif.Reason
		says   string
	}{
		"no kernel":        {func(c *eif.Contents) { c.Kernel = nil }, eif.ReasonInvalidContents, "Kernel"},
		"empty kernel":     {func(c *eif.Contents) { c.Kernel = strings.NewReader("") }, eif.ReasonInvalidContents, "Kernel"},
		"no ram disk":      {func(c *eif.Contents) { c.Ramdisks = nil }, eif.ReasonInvalidContents, "init program"},
		"nil ram disk":     {func(c *eif.Contents) { c.Ramdisks[1] = nil }, eif.ReasonInvalidContents, "Ramdisks[1]"},
		"many ram disks":   {func(c *eif.Contents) { c.Ramdisks = slices.Repeat(c.Ramdisks, 15) }, eif.ReasonInvalidContents, "33 sections"},
		"large ram disk":   {func(c *eif.Contents) { c.Ramdisks[0] = io.NewSectionReader(nil, 0, 1<<41) }, eif.ReasonInvalidContents, "bytes"},
		"architecture":     {func(c *eif.Contents) { c.Architecture = 2 }, eif.ReasonInvalidContents, "Architecture"},
		"zero byte":        {func(c *eif.Contents) { c.Cmdline = "a\x00b" }, eif.ReasonInvalidContents, "zero byte"},
		"long command":     {func(c *eif.Contents) { c.Cmdline = strings.Repeat("a", eif.MaxCmdlineSize+1) }, eif.ReasonInvalidContents, "Cmdline"},
		"not UTF-8":        {func(c *eif.Contents) { c.Metadata.ImageName = "\xff" }, eif.ReasonInvalidContents, "UTF-8"},
		"Docker's no JSON": {func(c *eif.Contents) { c.Metadata.DockerInfo = []byte("{") }, eif.ReasonInvalidContents, "DockerInfo is not"},
		"custom no object": {func(c *eif.Contents) { c.Metadata.CustomMetadata = []byte("1") }, eif.ReasonInvalidContents, "CustomMetadata"},
		"large metadata": {func(c *eif.Contents) { c.Metadata.ImageName = strings.Repeat("a", eif.MaxMetadataSize) },
			eif.ReasonInvalidContents, "more than"},
		"no key":      {func(c *eif.Contents) { c.Signer = &eif.Signer{Certificate: signer.Certificate} }, eif.ReasonInvalidContents, "lacks"},
		"other's key": {func(c *eif.Contents) { c.Signer = &eif.Signer{Key: other.Key, Certificate: signer.Certificate} }, eif.ReasonInvalidContents, "not of its Key"},
		"P-224":       {func(c *eif.Contents) { c.Signer = newSigner(t, elliptic.P224()) }, eif.ReasonInvalidContents, "P-224"},
		"broken key": {func(c *eif.Contents) {
			c.Signer = &eif.Signer{Key: brokenKey{signer.Key}, Certificate: signer.Certificate}
		}, eif.ReasonSignature, "verify"},
		"changing content": {func(c *eif.Contents) {
			c.Ramdisks[0] = &failing{Reader: strings.NewReader("init"), change: func(b []byte, n int, err error) (int, error) { b[0] ^= 1; return n, err }}
		}, eif.ReasonSourceChanged, "other bytes"},
		"changing size": {func(c *eif.Contents) {
			c.Ramdisks[0] = &failing{Reader: strings.NewReader("init"), change: func(b []byte, n int, err error) (int, error) { return n - 1, io.EOF }}
		}, eif.ReasonSourceChanged, "ends after 3 of its 4 bytes"},
		"broken source": {func(c *eif.Contents) {
			c.Ramdisks[0] = &failing{Reader: strings.NewReader("init"), change: func(b []byte, n int, err error) (int, error) { return 0, broken }}
		}, eif.ReasonRead, "broken"},
	} {
		t.Run(name, func(t *testing.T) {
			c := contents()
			test.change(&c)
			image, err := eif.Write(io.Discard, c)
			if e := hasReason(t, err, test.reason); !strings.Contains(e.Error(), test.says) {
				t.Errorf("the error %q does not say %q", e, test.says)
			}
			if image != nil {
				t.Error("an image beside an error")
			}
		})
	}
}

// fullWriter takes n bytes.
type fullWriter struct{ n int }

func (w *fullWriter) Write(b []byte) (int, error) {
	if w.n -= len(b); w.n < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

func TestWriteFails(t *testing.T) {
	file, _ := write(t, contents())
	for n := range file {
		_, err := eif.Write(&fullWriter{n}, contents())
		if e := hasReason(t, err, eif.ReasonWrite); !errors.Is(e, io.ErrShortWrite) {
			t.Errorf("%v does not wrap the writer's error", e)
		}
	}
}

// What the image measures is what attestation takes as a measurement.
func TestMeasurement(t *testing.T) {
	c := contents()
	c.Signer = newSigner(t, elliptic.P384())
	_, image := write(t, c)
	m := image.Measurement()
	if m.Name != "shop 4.1" || len(m.PCRs) != 4 || m.PCRs[attestation.PCRSigner] != attestation.SignerPCR(c.Signer.Certificate) {
		t.Errorf("%+v", m)
	}
	if _, err := attestation.NewVerifier(attestation.Policy{Measurements: []attestation.Measurement{m}}); err != nil {
		t.Error(err)
	}
}
