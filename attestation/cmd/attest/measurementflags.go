package main

import (
	"errors"
	"flag"

	"github.com/keyvouch/keyvouch/attestation"
)

// measurementFlags are the flags that name images: --measurement by the JSON of
// nitro-cli, --eif by their own files.
type measurementFlags struct {
	measurements []attestation.Measurement
	source       string // "--measurement" or "--eif", whichever was given
}

func (f *measurementFlags) define(p *program, set *flag.FlagSet, what string) {
	set.Func("measurement", what+" this JSON `FILE` of nitro-cli build-enclave or describe-eif describes; repeatable", func(name string) error {
		return f.add("--measurement", name, readMeasurement)
	})
	set.Func("eif", what+" this enclave image `FILE` measures; repeatable, in place of --measurement", func(name string) error {
		return f.add("--eif", name, p.imageMeasurement)
	})
}

func (f *measurementFlags) add(source, name string, read func(string) (attestation.Measurement, error)) error {
	// Two flags for one image are easily two images, each of which would pass.
	if f.source != "" && f.source != source {
		return errors.New("--eif beside --measurement: choose one")
	}
	f.source = source
	m, err := read(name)
	f.measurements = append(f.measurements, m)
	return err
}
