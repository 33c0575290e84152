package main

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/keyvouch/keyvouch/attestation"
)

// Sizes in bytes.
const (
	// maxInputSize bounds FILE: hexadecimal digits double a document, and line
	// breaks and spaces between them do not double it again.
	maxInputSize = 4 * attestation.MaxDocumentSize
	// maxRootSize bounds the file of a root: its PEM form and comments.
	maxRootSize = 64 << 10
)

// input is a document and the form in which it came.
type input struct {
	form string // "raw", "base64" or "hex"
	raw  []byte
}

// document reads and decodes FILE.
func (p *program) document(name string) (input, error) {
	var data []byte
	var err error
	if name == "-" {
		data, err = readBounded(p.stdin, maxInputSize)
	} else {
		data, err = readFile(name, maxInputSize)
	}
	if errors.Is(err, errTooLarge) {
		return input{}, unfit(attestation.ReasonDocumentSize, err)
	}
	if err != nil {
		return input{}, fmt.Errorf("%s: %w", inputName(name), err)
	}
	if len(data) == 0 {
		return input{}, unfit(attestation.ReasonDocumentSize, errors.New("is empty"))
	}
	in, err := decode(data)
	if err != nil {
		return input{}, unfit(attestation.ReasonNotSign1, err)
	}
	return in, nil
}

// inputName is what messages call FILE.
func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}

// unfit rejects an input that was read but cannot be a document. That is a
// verdict on it, as any other, and no mistake of the caller's.
func unfit(reason attestation.Reason, err error) error {
	return &attestation.Error{Reason: reason, Detail: err.Error()}
}

func readFile(name string, limit int) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, pathless(err)
	}
	defer file.Close()
	data, err := readBounded(file, limit)
	return data, pathless(err)
}

// pathless drops the path that the caller puts before every error.
func pathless(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

var errTooLarge = errors.New("too large")

func readBounded(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("more than %d bytes; that is %w", limit, errTooLarge)
	}
	return data, nil
}

// decode recognizes the form of a document. A raw one begins with byte 0x84 or
// 0xd2, which no text does. In base64 that is an h or a 0 and an o, so that no
// hexadecimal text is a document in base64 as well.
func decode(data []byte) (input, error) {
	if len(data) == 0 {
		return input{}, errors.New("is empty")
	}
	if !isText(data) {
		return input{"raw", data}, nil
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, string(data))
	if text == "" {
		return input{}, errors.New("holds nothing but white space")
	}
	if raw, err := hex.DecodeString(strings.TrimPrefix(text, "0x")); err == nil && len(raw) > 0 {
		return input{"hex", raw}, nil
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding
	}
	digits := strings.TrimRight(text, "=")
	padding := len(text) - len(digits)
	raw, err := encoding.Strict().DecodeString(digits)
	if err == nil && len(raw) > 0 && (padding == 0 || padding == -len(digits)&3) {
		return input{"base64", raw}, nil
	}
	return input{}, fmt.Errorf("is text, but neither base64 nor hexadecimal%s", textHint(text))
}

// textHint names what else the text may be.
func textHint(text string) string {
	switch text[0] {
	case '{', '[':
		return "; it looks like JSON: take the document's base64 out of it, for example with jq -r"
	case '"', '\'':
		return "; take off the quotation marks"
	case '<':
		return "; it looks like HTML or XML"
	}
	if strings.HasPrefix(text, "-----BEGIN") {
		return "; it looks like PEM, and a document has no PEM form"
	}
	return "; the whole file must be one document"
}

func isText(data []byte) bool {
	for _, b := range data {
		if (b < 0x20 || b > 0x7e) && b != '\n' && b != '\r' && b != '\t' {
			return false
		}
	}
	return true
}

// imageMagic is how every enclave image begins.
const imageMagic = ".eif"

// begins tells whether what is going to be read from r begins with start.
func begins(r *bufio.Reader, start string) bool {
	got, _ := r.Peek(len(start)) // an error comes back when r is read
	return string(got) == start
}

// readMeasurement reads the JSON of a measurement for --measurement.
func readMeasurement(name string) (attestation.Measurement, error) {
	file, err := os.Open(name)
	if err != nil {
		return attestation.Measurement{}, fmt.Errorf("%s: %w", name, pathless(err))
	}
	defer file.Close()
	r := bufio.NewReader(file)
	// Before it is called too large, which would be the wrong remedy.
	if begins(r, imageMagic) {
		return attestation.Measurement{}, fmt.Errorf("%s: is an enclave image; give it with --eif", name)
	}
	text, err := readBounded(r, attestation.MaxMeasurementSize)
	if err != nil {
		return attestation.Measurement{}, fmt.Errorf("%s: %w", name, pathless(err))
	}
	m, err := attestation.ParseMeasurement(text)
	if err != nil {
		return attestation.Measurement{}, fmt.Errorf("%s: %s", name, withoutReason(err))
	}
	return m, nil
}

// readRoot reads one certificate, PEM or DER.
func readRoot(name string) (*x509.Certificate, error) {
	data, err := readFile(name, maxRootSize)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	der := data
	if block, rest := pem.Decode(data); block != nil {
		if next, _ := pem.Decode(rest); next != nil {
			return nil, fmt.Errorf("%s: holds more than one PEM block; give the root alone", name)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s: is PEM of type %+q, not CERTIFICATE", name, block.Type)
		}
		der = block.Bytes
	} else if bytes.Contains(data, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("%s: is damaged PEM", name)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s: is no certificate in PEM or DER: %w", name, err)
	}
	return root, nil
}
