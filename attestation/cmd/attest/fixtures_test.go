package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/attestation/eif"
	"github.com/keyvouch/keyvouch/internal/programtest"
	"github.com/keyvouch/keyvouch/internal/testkeys"
	"github.com/keyvouch/keyvouch/nsm"
	"github.com/keyvouch/keyvouch/nsm/nsmtest"
)

var testNonce = []byte("a nonce of the test's own")

const instance = "i-0123456789abcdef0"

// hostileName would clear a terminal, set its title and colour, turn text
// around and pass for a line of the program's own.
const hostileName = "i-0\x1b[2J\x1b]0;owned\x07\u009b31m\u202e\x7f\r\n  root          the AWS Nitro root\u00e9"

var rsaKey = sync.OnceValues(func() ([]byte, error) {
	return x509.MarshalPKIXPublicKey(&testkeys.RSA(2048, 0).PublicKey)
})

// fixture makes the files of one script: all documents under one root.
type fixture struct {
	dir string
	pki *nsmtest.PKI
	err error // the first
}

func writeFixtures(env *testscript.Env) error {
	programtest.QuickExit(env)
	now := time.Now()
	f := &fixture{dir: env.WorkDir}
	f.pki, f.err = nsmtest.NewPKI(nsmtest.PKIOptions{Clock: ago(now, 48*time.Hour)})
	if f.err != nil {
		return f.err
	}
	root := f.pki.Root().Raw
	f.write("root.der", root)
	f.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}))

	spki, err := rsaKey()
	f.fail(err)
	request := nsm.AttestationRequest{Nonce: testNonce, UserData: []byte(`{"user":"data"}`), PublicKey: spki}
	release := []byte("release")
	// The oldest first: authorities are made when they are needed.
	f.attest("expired.cbor", request, nsmtest.Options{Image: release, Clock: ago(now, 12*time.Hour)})
	f.attest("old.cbor", request, nsmtest.Options{Image: release, Clock: ago(now, 10*time.Minute)})
	raw := f.attest("doc.cbor", request, nsmtest.Options{Image: release})
	f.attest("debug.cbor", request, nsmtest.Options{Image: release, Debug: true})
	f.attest("bare.cbor", nsm.AttestationRequest{}, nsmtest.Options{Image: release})
	f.tpm("tpm.cbor")
	f.attest("hostile.cbor", nsm.AttestationRequest{UserData: []byte(hostileName), Nonce: []byte("\xff" + hostileName)}, nsmtest.Options{
		Image: release, EditDocument: func(d *nsmtest.Document) { d.ModuleID = hostileName },
	})

	f.write("doc.b64", []byte(base64.StdEncoding.EncodeToString(raw)))
	f.write("wrapped.b64", wrap(base64.RawURLEncoding.EncodeToString(raw)))
	f.write("doc.hex", wrap("0x"+fmt.Sprintf("%X", raw)))
	f.write("forged.cbor", append(bytes.Clone(raw[:len(raw)-1]), raw[len(raw)-1]^1))
	f.write("long.cbor", append(bytes.Clone(raw), make([]byte, maxInputSize)...))
	f.write("trailing.cbor", append(bytes.Clone(raw), 0))

	pcr0, pcr1, pcr2 := nsmtest.Measure(release)
	pcrs := map[int][48]byte{0: pcr0, 1: pcr1, 2: pcr2}
	f.measurement("release.json", pcrs, nil)
	f.measurement("described.json", pcrs, map[string]any{"ImageName": "shop", "ImageVersion": "4.1"})
	f.measurement("signed.json", map[int][48]byte{0: pcr0, 1: pcr1, 2: pcr2, 8: {8}}, nil)
	f.measurement("partial.json", map[int][48]byte{0: pcr0}, nil)
	f.measurement("zero.json", map[int][48]byte{0: {}, 1: {}, 2: {}}, nil)
	f.write("large.json", bytes.Repeat([]byte(" "), attestation.MaxMeasurementSize+1))
	f.measurement("tpm.json", map[int][48]byte{4: {4}, 7: {7}, 12: {12}}, nil)
	other0, other1, other2 := nsmtest.Measure([]byte("another release"))
	f.measurement("other.json", map[int][48]byte{0: other0, 1: other1, 2: other2}, nil)

	for i, pcr := range f.images(request) {
		env.Setenv(fmt.Sprintf("EIFPCR%d", i), pcr.String())
	}

	env.Setenv("NONCE", hex.EncodeToString(testNonce))
	for i, pcr := range [][48]byte{pcr0, pcr1, pcr2} {
		env.Setenv(fmt.Sprintf("PCR%d", i), hex.EncodeToString(pcr[:]))
	}
	env.Setenv("PCR4", attestation.InstancePCR(instance).String())
	env.Setenv("TPMPCR4", hex.EncodeToString(append([]byte{4}, make([]byte, 47)...)))
	env.Setenv("ZERO", hex.EncodeToString(make([]byte, 48)))
	env.Setenv("THEN", now.Add(-12*time.Hour+time.Minute).UTC().Format(time.RFC3339))
	return f.err
}

func ago(now time.Time, d time.Duration) func() time.Time {
	return func() time.Time { return now.Add(-d) }
}

func (f *fixture) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fixture) write(name string, data []byte) {
	f.fail(os.WriteFile(filepath.Join(f.dir, name), data, 0o600))
}

// enclave makes a software NSM under the fixture's root.
func (f *fixture) enclave(o nsmtest.Options) *nsmtest.NSM {
	o.PKI = f.pki
	o.InstanceID = instance
	if o.Clock == nil {
		o.Clock = time.Now
	}
	n, err := nsmtest.New(o)
	f.fail(err)
	return n
}

func (f *fixture) attest(name string, request nsm.AttestationRequest, o nsmtest.Options) []byte {
	if f.err != nil {
		return nil
	}
	raw, err := nsm.NewSession(f.enclave(o)).Attest(context.Background(), request)
	f.fail(err)
	f.write(name, raw)
	return raw
}

// tpm writes a document as NitroTPMs make them.
func (f *fixture) tpm(name string) {
	if f.err != nil {
		return
	}
	n := f.enclave(nsmtest.Options{})
	chain, err := n.Chain()
	f.fail(err)
	pcrs := map[int][]byte{}
	for i := range 24 {
		pcrs[i] = make([]byte, 48)
		pcrs[i][0] = byte(i)
	}
	payload, err := cbor.Marshal(map[string]any{
		"module_id": instance + "-tpm0000000000000000", "digest": "SHA384", "timestamp": time.Now().UnixMilli(),
		"nitrotpm_pcrs": pcrs, "certificate": chain.Certificate, "cabundle": chain.CABundle,
	})
	f.fail(err)
	raw, err := n.SignPayload(payload)
	f.fail(err)
	f.write(name, raw)
}

// images writes image files, and documents of two of them, and returns the PCRs
// of signed.eif, which those of plain.eif are but for PCR8.
func (f *fixture) images(request nsm.AttestationRequest) map[int]attestation.PCR {
	contents := func(application string) eif.Contents {
		return eif.Contents{
			Kernel:   strings.NewReader("kernel"),
			Cmdline:  "console=ttyS0",
			Ramdisks: []eif.Source{strings.NewReader("init"), strings.NewReader(application)},
			Metadata: eif.Metadata{
				ImageName: "shop", ImageVersion: "4.1",
				Build: eif.BuildMetadata{
					BuildTime: "2026-01-02T03:04:05Z", BuildTool: "nitro-cli", BuildToolVersion: "1.4.2",
					OperatingSystem: "Linux", KernelVersion: "6.12",
				},
				CustomMetadata: json.RawMessage(`{"Team":"shop","BuildTool":"mine","Commit":12345678901234567890,"Huge":1e999,"Last":"seen"}`),
			},
		}
	}
	write := func(name string, c eif.Contents) *eif.Image {
		var file bytes.Buffer
		image, err := eif.Write(&file, c)
		f.fail(err)
		f.write(name, file.Bytes())
		return image
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	f.fail(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject:      pkix.Name{CommonName: "image signer", Country: []string{"DE"}},
		NotBefore:    time.Date(2026, 3, 5, 1, 2, 3, 0, time.UTC), NotAfter: time.Date(2096, 3, 5, 1, 2, 3, 0, time.UTC),
	}
	certificate := func() *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		f.fail(err)
		c, err := x509.ParseCertificate(der)
		f.fail(err)
		return c
	}

	plain := write("plain.eif", contents("application"))
	c := contents("application")
	c.Signer = &eif.Signer{Key: key, Certificate: certificate()}
	signed := write("signed.eif", c)
	next := contents("another application")
	next.Signer = c.Signer
	write("next.eif", next)
	template.NotAfter = template.NotBefore.Add(time.Hour)
	c.Signer = &eif.Signer{Key: key, Certificate: certificate()}
	write("lapsed.eif", c)
	c = contents("another application")
	c.Metadata = eif.Metadata{}
	c.Architecture = eif.AArch64
	write("nameless.eif", c)
	c = contents("application")
	c.Cmdline = hostileName
	c.Metadata.ImageName, c.Metadata.Build.BuildTool = hostileName, hostileName
	template.Subject.CommonName, template.NotAfter = hostileName, time.Date(2096, 3, 5, 1, 2, 3, 0, time.UTC)
	c.Signer = &eif.Signer{Key: key, Certificate: certificate()}
	write("hostile.eif", c)

	if f.err != nil {
		return nil
	}
	file, err := os.ReadFile(filepath.Join(f.dir, "plain.eif"))
	f.fail(err)
	f.write("short.eif", file[:len(file)-1])
	f.write("trailing.eif", append(bytes.Clone(file), 0))
	file[len(file)-1] ^= 1
	f.write("damaged.eif", file)

	for name, image := range map[string]*eif.Image{"plain.cbor": plain, "signed.cbor": signed} {
		f.attest(name, request, nsmtest.Options{EditDocument: func(d *nsmtest.Document) {
			for i, pcr := range image.PCRs {
				d.PCRs[i] = bytes.Clone(pcr[:])
			}
		}})
	}
	return signed.PCRs
}

// measurement writes what nitro-cli prints.
func (f *fixture) measurement(name string, pcrs map[int][48]byte, more map[string]any) {
	measurements := map[string]string{"HashAlgorithm": "Sha384 { ... }"}
	for i, pcr := range pcrs {
		measurements[fmt.Sprintf("PCR%d", i)] = hex.EncodeToString(pcr[:])
	}
	file := map[string]any{"Measurements": measurements}
	for name, value := range more {
		file[name] = value
	}
	text, err := json.MarshalIndent(file, "", "  ")
	f.fail(err)
	f.write(name, text)
}

// wrap breaks lines as base64(1) does.
func wrap(s string) []byte {
	var b bytes.Buffer
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	b.WriteString(s + "\n")
	return b.Bytes()
}
