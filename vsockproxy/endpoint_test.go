package vsockproxy

import (
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]Endpoint{
		"vsock://3:8000":                      Vsock(ParentCID, 8000),
		"vsock://any:8000":                    Vsock(AnyCID, 8000),
		"vsock://any:0":                       Vsock(AnyCID, 0),
		"vsock://0:1":                         Vsock(0, 1),
		"vsock://16:4294967294":               Vsock(16, 0xFFFFFFFE),
		"hybrid:///run/v.sock?port=8000":      HybridVsock("/run/v.sock", 8000),
		"hybrid:///a%20b%3F%23%25?port=1":     HybridVsock("/a b?#%", 1),
		"unix:///run/p.sock":                  Unix("/run/p.sock"),
		"unix:///run/%C3%A9.sock":             Unix("/run/é.sock"),
		"tcp://127.0.0.1:8000":                TCP("127.0.0.1:8000"),
		"tcp://[::1]:8000":                    TCP("[::1]:8000"),
		"tcp://proxy.internal:0":              TCP("proxy.internal:0"),
		"unix:///" + strings.Repeat("x", 106): Unix("/" + strings.Repeat("x", 106)),
	} {
		got, err := ParseEndpoint(text)
		if err != nil || got != want {
			t.Errorf("ParseEndpoint(%q) = %v, %v; want %v", text, got, err, want)
			continue
		}
		if got.String() != text {
			t.Errorf("ParseEndpoint(%q).String() = %q", text, got)
		}
	}
	// The number for "any" is accepted, too.
	if e, err := ParseEndpoint("vsock://4294967295:8000"); err != nil || e != Vsock(AnyCID, 8000) {
		t.Errorf("%v, %v", e, err)
	}
}

func TestParseEndpointErrors(t *testing.T) {
	for text, says := range map[string]string{
		"":                                    "no scheme",
		"3:8000":                              "no scheme",
		"vsock:3:8000":                        "no scheme",
		"VSOCK://3:8000":                      "unknown scheme",
		"http://localhost:80":                 "unknown scheme",
		"vsock://":                            "no port",
		"vsock://3":                           "no port",
		"vsock://3:":                          `port ""`,
		"vsock://:8000":                       `context ID ""`,
		"vsock://host:8000":                   `context ID "host"`,
		"vsock://-1:8000":                     `context ID "-1"`,
		"vsock://4294967296:1":                `context ID "4294967296"`,
		"vsock://03:8000":                     `context ID "03"`,
		"vsock://3:+1":                        `port "+1"`,
		"vsock://3:8000/":                     `port "8000/"`,
		"vsock://3:8000:1":                    `port "8000:1"`,
		"vsock://3:4294967295":                "VMADDR_PORT_ANY",
		"hybrid:///run/v.sock":                "no ?port=",
		"hybrid:///run/v.sock?port":           "is not port=PORT",
		"hybrid:///run/v.sock?p=1":            "is not port=PORT",
		"hybrid:///run/v.sock?port=":          `port ""`,
		"hybrid:///run/v.sock?port=1&x":       `port "1&x"`,
		"hybrid:///run/v.sock?port=0":         "port 0",
		"hybrid:///v?port=4294967295":         "not a vsock port",
		"hybrid://v.sock?port=1":              "not absolute",
		"hybrid://?port=1":                    "not absolute",
		"unix://":                             "not absolute",
		"unix://p.sock":                       "not absolute",
		"unix://@abstract":                    "not absolute",
		"unix:///run/":                        "names a directory",
		"unix:///run/p.sock?port=1":           "takes no query",
		"unix:///run/p#x":                     "takes no fragment",
		"unix:///run/%zz":                     "path:",
		"unix:///run/%00":                     "NUL",
		"unix:///" + strings.Repeat("x", 107): "108 bytes long",
		"tcp://":                              "not host:port",
		"tcp://localhost":                     "not host:port",
		"tcp://::1:80":                        "not host:port",
		"tcp://:80":                           "the host is empty",
		"tcp://h:65536":                       `port "65536"`,
		"tcp://h:080":                         `port "080"`,
		"tcp://h:":                            `port ""`,
		"tcp://a b:80":                        `host "a b"`,
		"tcp://[fe80::1%25eth0]:80":           "zone",
		strings.Repeat("x", 2000):             "2000 bytes long",
	} {
		e, err := ParseEndpoint(text)
		if err == nil {
			t.Errorf("ParseEndpoint(%q) = %v, want an error", text, e)
			continue
		}
		if !e.IsZero() {
			t.Errorf("ParseEndpoint(%q) returned %v beside an error", text, e)
		}
		wantReason(t, err, ReasonInvalidEndpoint)
		for _, part := range []string{says, acceptedForms} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("ParseEndpoint(%q): %v; does not say %q", text, err, part)
			}
		}
	}
}

func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{
		"vsock://3:8000", "vsock://any:0", "hybrid:///run/v.sock?port=8000", "hybrid:///a%20b%3F?port=1",
		"unix:///run/p.sock", "tcp://127.0.0.1:8000", "tcp://[::1]:8000", "tcp://[::ffff:1.2.3.4]:1", "vsock://3:", "://", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEndpoint(s)
		if err != nil {
			wantReason(t, err, ReasonInvalidEndpoint)
			if !e.IsZero() {
				t.Fatalf("%v beside %v", e, err)
			}
			return
		}
		again, err := ParseEndpoint(e.String())
		if err != nil || again != e {
			t.Fatalf("%q parses to %v, whose text parses to %v, %v", s, e, again, err)
		}
		if err := e.check(); err != nil {
			t.Fatalf("%q parses to %v, which is no endpoint: %v", s, e, err)
		}
		if len(e.where) > maxEndpointLength {
			t.Fatalf("%d bytes from %d", len(e.where), len(s))
		}
	})
}

func TestEndpointParts(t *testing.T) {
	for _, test := range []struct {
		endpoint         Endpoint
		network, address string
	}{
		{Endpoint{}, "", ""},
		{Vsock(3, 8000), "vsock", ""},
		{HybridVsock("/run/v.sock", 8000), "hybrid", ""},
		{Unix("/run/p.sock"), "unix", ""},
		{TCP("[::1]:8000"), "tcp", "[::1]:8000"},
	} {
		if n, a := test.endpoint.Network(), test.endpoint.Address(); n != test.network || a != test.address {
			t.Errorf("%v is %q %q", test.endpoint, n, a)
		}
	}
}
