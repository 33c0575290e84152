// Image builds the enclave image file of this example, without nitro-cli and Docker. It
// refuses a kernel, program or configuration that an enclave could not start.
//
//	image -kernel bzImage -module nsm.ko -program enclave -config config.json -o enclave.eif > build.json
//
// The same inputs make the same file, byte for byte. The measurements are printed in the
// form of nitro-cli build-enclave. A build that fails does not change an existing file.
//
// -name and -version label the image for people and for nitro-cli describe-eif. No PCR
// covers them, so they prove nothing.
//
// -signing-key and -signing-certificate, both in PEM, sign the image. Its enclaves then
// have PCR8; README.md says why, under "Sign the image".
//
// The first ram disk has the modules and the folders to mount on; PCR1 measures it with
// the kernel. The second has the program and its configuration; PCR2 measures it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyvouch/keyvouch/attestation/eif"
	"github.com/keyvouch/keyvouch/examples/enclave/cpio"
	"github.com/keyvouch/keyvouch/examples/enclave/service"
)

// defaultCmdline fits a machine without firmware, without PCI and without anyone to look
// at a panic.
const defaultCmdline = "reboot=k panic=30 pci=off console=ttyS0 random.trust_cpu=on"

type inputs struct {
	kernel, cmdline, program, config, output string
	name, version                            string // of the image
	modules                                  []string
	signingKey, signingCertificate           string // both or neither
}

func main() {
	var in inputs
	flag.StringVar(&in.kernel, "kernel", "", "the kernel, a bzImage `file`: that of the Nitro CLI is /usr/share/nitro_enclaves/blobs/bzImage")
	flag.Func("module", "a kernel module `file`, not compressed, such as /usr/share/nitro_enclaves/blobs/nsm.ko; repeatable, in the order to load them", func(file string) error {
		in.modules = append(in.modules, file)
		return nil
	})
	flag.StringVar(&in.cmdline, "cmdline", defaultCmdline, "the kernel's command `line`")
	flag.StringVar(&in.program, "program", "", "the program `file`, static and for Linux")
	flag.StringVar(&in.config, "config", "", "its configuration `file`")
	flag.Func("signing-key", "sign the image with the private key in this PEM `file`: ECDSA on P-256, P-384 or P-521, not encrypted", setFile(&in.signingKey))
	flag.Func("signing-certificate", "the PEM `file` with that key's certificate, of which PCR8 is made", setFile(&in.signingCertificate))
	flag.StringVar(&in.name, "name", "enclave", "the image's `name`, which is not measured")
	flag.StringVar(&in.version, "version", "1", "the image's `version`, which is not measured")
	flag.StringVar(&in.output, "o", "", "the image `file` to write")
	flag.Parse()
	if flag.NArg() > 0 {
		usageError(fmt.Sprintf("unexpected argument %q: each file has a flag before it", flag.Arg(0)))
	}
	if (in.signingKey == "") != (in.signingCertificate == "") {
		usageError("-signing-key and -signing-certificate go together; one is missing")
	}
	var missing []string
	for _, required := range []struct{ name, value string }{
		{"kernel", in.kernel}, {"program", in.program}, {"config", in.config}, {"o", in.output},
	} {
		if required.value == "" {
			missing = append(missing, "-"+required.name+" is missing")
		}
	}
	if len(missing) > 0 {
		usageError(strings.Join(missing, "; "))
	}
	if err := build(in, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// usageError prints one line and ends the program. The descriptions of the flags, which -h
// prints, would bury it.
func usageError(text string) {
	fmt.Fprintln(os.Stderr, "image:", text)
	os.Exit(2)
}

// setFile refuses an empty name: an unset shell variable must not lead to an unsigned
// image.
func setFile(name *string) func(string) error {
	return func(s string) error {
		if s == "" {
			return errors.New("is empty; give the name of a file")
		}
		*name = s
		return nil
	}
}

func build(in inputs, stdout io.Writer) error {
	kernel, err := os.ReadFile(in.kernel)
	if err != nil {
		return err
	}
	if err := checkKernel(kernel); err != nil {
		return fmt.Errorf("%s: %w", in.kernel, err)
	}
	config, err := os.ReadFile(in.config)
	if err != nil {
		return err
	}
	// Here somebody sees the error; in an enclave nobody does.
	if _, err := service.ReadConfig(bytes.NewReader(config)); err != nil {
		return fmt.Errorf("%s: %w", in.config, err)
	}
	program, err := os.ReadFile(in.program)
	if err != nil {
		return err
	}
	if err := checkProgram(program); err != nil {
		return fmt.Errorf("%s: %w", in.program, err)
	}
	boot, err := bootDisk(in.modules)
	if err != nil {
		return err
	}
	application, err := applicationDisk(program, config)
	if err != nil {
		return err
	}
	contents := eif.Contents{
		Kernel: bytes.NewReader(kernel), Cmdline: in.cmdline,
		Ramdisks: []eif.Source{bytes.NewReader(boot), bytes.NewReader(application)},
		Metadata: eif.Metadata{ImageName: in.name, ImageVersion: in.version},
	}
	if in.signingKey != "" {
		if contents.Signer, err = readSigner(in.signingKey, in.signingCertificate, time.Now()); err != nil {
			return err
		}
	}
	return replace(in.output, func(w io.Writer) error {
		image, err := eif.Write(w, contents)
		if err != nil {
			return err
		}
		return printMeasurements(stdout, image)
	})
}

func printMeasurements(w io.Writer, image *eif.Image) error {
	measurements := map[string]string{"HashAlgorithm": "Sha384 { ... }"}
	for index, pcr := range image.PCRs {
		measurements[fmt.Sprintf("PCR%d", index)] = pcr.String()
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{"Measurements": measurements})
}

func bootDisk(modules []string) ([]byte, error) {
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	for _, folder := range []string{"dev", "modules", "proc", "run", "sys", "tmp"} {
		if err := w.Directory(folder); err != nil {
			return nil, err
		}
	}
	for n, file := range modules {
		// The enclave's program loads only these, and does not unpack them.
		if filepath.Ext(file) != ".ko" {
			return nil, fmt.Errorf("%s: is no .ko; unpack it, with xz -d or zstd -d", file)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := w.File(fmt.Sprintf("modules/%02d-%s", n, filepath.Base(file)), 0o644, content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

func applicationDisk(program, config []byte) ([]byte, error) {
	var b bytes.Buffer
	w := cpio.NewWriter(&b)
	if err := w.File("init", 0o755, program); err != nil {
		return nil, err
	}
	if err := w.File("config.json", 0o644, config); err != nil {
		return nil, err
	}
	err := w.Close()
	return b.Bytes(), err
}
