package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"

	"github.com/keyvouch/keyvouch/attestation"
)

// measurementFlags are the flags that name images: --measurement by the JSON of
// nitro-cli, --eif by their own files.
type measurementFlags struct {
	source string   // "--measurement" or "--eif", whichever was given
	files  []string // as they were given

	measurements []attestation.Measurement // of the files, once they are read
}

func (f *measurementFlags) define(set *flag.FlagSet, what string) {
	set.Func("measurement", what+" this JSON `FILE` of nitro-cli build-enclave or describe-eif describes; repeatable", func(file string) error {
		return f.add("--measurement", file)
	})
	set.Func("eif", what+" this enclave image `FILE` measures; repeatable, in place of --measurement", func(file string) error {
		return f.add("--eif", file)
	})
}

func (f *measurementFlags) add(source, file string) error {
	// Two flags for one image are easily two images, each of which would pass.
	if f.source != "" && f.source != source {
		return errors.New("--eif beside --measurement: choose one")
	}
	if err := checkFileFlag(file); err != nil {
		return err
	}
	f.source, f.files = source, append(f.files, file)
	return nil
}

// checkFileFlag refuses what cannot name a file for a flag. An empty name is what
// an unset shell variable leaves.
func checkFileFlag(file string) error {
	switch file {
	case "":
		return errors.New("is empty; give the name of a file")
	case "-":
		return errors.New("want a file, not the standard input")
	}
	return nil
}

// read reads the files. That comes after the flags were parsed, since what is wrong
// with a file is not a flag written wrongly.
func (f *measurementFlags) read() error {
	read := readMeasurement
	remedy := "give the file with the JSON that nitro-cli build-enclave printed, or the image itself with --eif"
	if f.source == "--eif" {
		read = imageMeasurement
		remedy = "give the image file that was built, or what nitro-cli build-enclave printed, with --measurement"
	}
	for _, file := range f.files {
		m, err := read(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; %s", err, remedy)
		}
		if err != nil {
			return fmt.Errorf("%s %w", f.source, err)
		}
		// Not the image's own name, which its releases share and no PCR covers.
		m.Name = file
		f.measurements = append(f.measurements, m)
	}
	return nil
}

// onlySigner leaves of each measurement what all images of one signer have in common:
// PCR8, and PCR1. That one tells where the first ram disk ends, which the signed
// PCR0 does not, and is zero in debug mode.
func (f *measurementFlags) onlySigner(platform attestation.Platform) error {
	if platform != attestation.PlatformEnclave {
		return errors.New("--signer: only enclave images are signed, which PCR8 shows")
	}
	for i, m := range f.measurements {
		only := map[int]attestation.PCR{}
		for _, index := range []int{attestation.PCRKernel, attestation.PCRSigner} {
			value := m.PCRs[index]
			if value.IsZero() {
				return fmt.Errorf("--signer: %s has no PCR%d; only a signed image has PCR8", f.files[i], index)
			}
			only[index] = value
		}
		f.measurements[i].PCRs = only
	}
	return nil
}
