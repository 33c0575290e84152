package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
)

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	in := inputs{
		kernel: put("bzImage", "kernel"), cmdline: defaultCmdline, program: put("enclave", "program"), config: "../config.json",
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
	expected, err := attestation.ParseMeasurement(printed[0].Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(image.PCRs, expected.PCRs); diff != "" {
		t.Errorf("what is printed (+) isn't what the image has (-):\n%s", diff)
	}

	in.config = put("config.json", `{"region": "eu-central-1"}`)
	in.output = filepath.Join(dir, "none.eif")
	if err := build(in, &printed[0]); err == nil {
		t.Error("built an image that can't start")
	}
	if _, err := os.Stat(in.output); err == nil {
		t.Error("wrote an image beside an error")
	}
}
