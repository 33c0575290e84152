package main

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/keyvouch/keyvouch/vsockproxy"
)

func TestExplain(t *testing.T) {
	const want = "; there is no proxy on this way: does an enclave with context ID 16 run (nitro-cli describe-enclaves), and does it listen on port 5000?"
	for name, c := range map[string]struct {
		err       error
		explained bool
	}{
		"no such enclave":    {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonTimeout}, true},
		"not listening":      {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonRefused}, true},
		"no route":           {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonUnreachable}, true},
		"no AF_VSOCK":        {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.Vsock(16, 5000), Reason: vsockproxy.ReasonUnsupported}, false},
		"through the parent": {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.Vsock(vsockproxy.ParentCID, 5000), Reason: vsockproxy.ReasonTimeout}, false},
		"by TCP":             {&vsockproxy.Error{Op: "dial", Endpoint: vsockproxy.TCP("parent:5000"), Reason: vsockproxy.ReasonTimeout}, false},
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
