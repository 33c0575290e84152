package main

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/attestation"
	"github.com/keyvouch/keyvouch/vsockproxy"
)

func TestExplain(t *testing.T) {
	const want = "; there is no proxy on this way: does an enclave with context ID 16 run (nitro-cli describe-enclaves), and does it listen on port 5000?"
	for name, c := range map[string]struct {
		err       error
		explained bool
	}{
		"no such enclave":    {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonTimeout}, true},
		"not listening":      {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonRefused}, true},
		"no route":           {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonUnreachable}, true},
		"no AF_VSOCK":        {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonUnsupported}, false},
		"through the parent": {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 5000), Reason: vsockproxy.ReasonTimeout}, false},
		"by TCP":             {&vsockproxy.Error{Op: "DialContext", Endpoint: vsockproxy.TCP("parent:5000"), Reason: vsockproxy.ReasonTimeout}, false},
		"something else":     {errors.New("attestation: the PCRs differ"), false},
	} {
		err := &url.Error{Op: "Get", URL: "https://enclave/attestation", Err: c.err} // as an HTTP client has it
		got := explain(err)
		if c.explained != strings.HasSuffix(got.Error(), want) || !errors.Is(got, err) || !strings.HasPrefix(got.Error(), err.Error()) {
			t.Errorf("%s: %v", name, got)
		}
		if !c.explained && got.Error() != err.Error() {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The errors of run keep their structure: explain depends on it.
func TestRunFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "tcp://" + listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	put := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pcr := strings.Repeat("ab", 48)
	good := put("good.json", `{"Measurements": {"HashAlgorithm": "Sha384 { ... }", "PCR0": "`+pcr+`", "PCR1": "`+pcr+`", "PCR2": "`+pcr+`"}}`)
	for name, c := range map[string]struct {
		measurement, at string
		want            error
	}{
		"no measurement":      {filepath.Join(dir, "missing"), nobody, fs.ErrNotExist},
		"not a measurement":   {put("bad.json", "{}"), nobody, attestation.ReasonInvalidPolicy},
		"not an endpoint":     {good, "16:5000", vsockproxy.ReasonInvalidEndpoint},
		"nobody is listening": {good, nobody, vsockproxy.ReasonRefused},
	} {
		if err := run(c.measurement, c.at, "a message", io.Discard); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
}
