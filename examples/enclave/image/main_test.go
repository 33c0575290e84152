package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

// putIn returns what writes a file into dir, and says where it is.
func putIn(t *testing.T, dir string) func(name, content string) string {
	return func(name, content string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
}

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	put := putIn(t, dir)
	in := inputs{
		kernel: put("bzImage", kernel(nil)), cmdline: defaultCmdline, name: "shop", version: "4.1", program: put("enclave", string(program(elf.EM_X86_64, nil))), config: put("config.json", sampleConfig),
		modules: []string{put("nsm.ko", "module")},
	}
	var files, printed [2]bytes.Buffer
	for i := range files {
		in.output = filepath.Join(dir, "image.eif")
		if err := build(in, &printed[i]); err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile(in.output)
		if err != nil {
			t.Fatal(err)
		}
		files[i].Write(file)
	}
	if !bytes.Equal(files[0].Bytes(), files[1].Bytes()) {
		t.Error("two builds make two images")
	}
	image, err := eif.Read(&files[0])
	if err != nil {
		t.Fatal(err)
	}
	if image.Metadata.ImageName != "shop" || image.Metadata.ImageVersion != "4.1" {
		t.Errorf("the image is %+v", image.Metadata)
	}
	expected, err := attestation.ParseMeasurement(printed[0].Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(image.PCRs, expected.PCRs); diff != "" {
		t.Errorf("what is printed (+) is not what the image has (-):\n%s", diff)
	}

	in.output = filepath.Join(dir, "old.eif")
	put("old.eif", "an older image")
	for name, bad := range map[string]func(*inputs){
		"a configuration that cannot work": func(in *inputs) { in.config = put("bad.json", `{"region": "eu-central-1"}`) },
		"a program of another system":      func(in *inputs) { in.program = put("bad", "MZ") },
		"one of another processor":         func(in *inputs) { in.program = put("bad", string(program(elf.EM_AARCH64, nil))) },
		"one with shared libraries": func(in *inputs) {
			in.program = put("bad", string(program(elf.EM_X86_64, &elf.Prog64{Type: uint32(elf.PT_INTERP)})))
		},
		"a compressed module":   func(in *inputs) { in.modules = []string{put("nsm.ko.xz", "\xfd7zXZ")} },
		"no module":             func(in *inputs) { in.modules = []string{filepath.Join(dir, "missing.ko")} },
		"a command line's zero": func(in *inputs) { in.cmdline = "a\x00b" },
		"a program as kernel":   func(in *inputs) { in.kernel = in.program },
	} {
		broken := in
		bad(&broken)
		var printed bytes.Buffer
		if err := build(broken, &printed); err == nil || printed.Len() > 0 {
			t.Errorf("%s: %v, %s", name, err, printed.Bytes())
		}
		wantFile(t, in.output, "an older image")
	}
	// So does one whose measurements nobody gets.
	if err := build(in, failing{}); !errors.Is(err, errFailing) {
		t.Errorf("the output that cannot be written: %v", err)
	}
	wantFile(t, in.output, "an older image")
	in.output = filepath.Join(dir, "none.eif")
	if err := build(in, failing{}); !errors.Is(err, errFailing) {
		t.Errorf("the output that cannot be written: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.eif*")); err != nil || len(left) != 2 {
		t.Errorf("left are %q, %v", left, err)
	}
}

var errFailing = errors.New("no space")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFailing }

// sampleConfig is a config.json in which nothing is left to replace.
const sampleConfig = `{
  "region": "eu-central-1",
  "key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
  "sealed": "AQIC",
  "kms": "vsock://3:8000",
  "metadata": "vsock://3:8002",
  "listen": "vsock://any:5000"
}`

func wantFile(t *testing.T, file, want string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is %q, %v", filepath.Base(file), got, err)
	}
}

func TestCheckKernel(t *testing.T) {
	if err := checkKernel([]byte(kernel(nil))); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(head []byte) []byte{
		"no boot flag":         func(head []byte) []byte { head[0x1fe] = 0; return head },
		"no magic":             func(head []byte) []byte { head[0x205] = 's'; return head },
		"a zImage":             func(head []byte) []byte { head[0x211] = 0; return head },
		"an old boot protocol": func(head []byte) []byte { head[0x206] = 0x0b; return head },
		"of 32 bits":           func(head []byte) []byte { head[0x236] = 0x7e; return head },
		"a compressed file":    func(head []byte) []byte { return append([]byte("\xfd7zXZ\x00"), head...) },
		"one cut short":        func(head []byte) []byte { return head[:0x237] },
		"nothing":              func([]byte) []byte { return nil },
	} {
		err := checkKernel([]byte(kernel(change)))
		if err == nil || err.Error() != "is no bzImage of x86-64; /usr/share/nitro_enclaves/blobs/bzImage is one" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// kernel is the head of a bzImage of x86-64, after a change to it.
func kernel(change func(head []byte) []byte) string {
	head := make([]byte, 0x238)
	copy(head[0x1fe:], "\x55\xaa")
	copy(head[0x202:], "HdrS\x0f\x02")
	head[0x211], head[0x236] = 1, 0x7f
	if change != nil {
		head = change(head)
	}
	return string(head)
}

// program is the head of an executable file, with one part or none.
func program(machine elf.Machine, part *elf.Prog64) []byte {
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
	}
	if part != nil {
		header.Phoff, header.Phentsize, header.Phnum = 64, 56, 1
	}
	b, _ := binary.Append(nil, binary.LittleEndian, header)
	if part != nil {
		b, _ = binary.Append(b, binary.LittleEndian, part)
	}
	return b
}
