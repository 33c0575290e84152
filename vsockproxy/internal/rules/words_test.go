package rules

import (
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	for _, test := range []struct {
		entry, words string
		warnings     []string // a piece of each
	}{
		{"kms.eu-west-1.amazonaws.com:443", "everybody may reach kms.eu-west-1.amazonaws.com, port 443", nil},
		{"a.example.com:8000-8100 cid=17,16", "the enclaves with context ID 16, 17 may reach a.example.com, ports 8000 to 8100", nil},
		{"*.example.com:443", "everybody may reach every name below example.com, port 443", []string{"DNS queries"}},
		{"localhost:443", "everybody may reach localhost, port 443", []string{"has one label"}},
		{"1.2.3.4:443", "everybody may reach the address 1.2.3.4, port 443", nil},
		{"1.2.3.0/24:1-65535", "everybody may reach the public addresses of 1.2.3.0/24, ports 1 to 65535", []string{"port 80"}},
		{"10.0.3.0/24:443", "everybody may reach the addresses of 10.0.3.0/24, port 443", []string{"not public: private (RFC 1918)"}},
		{"10.0.3.1:443", "everybody may reach the address 10.0.3.1, port 443", []string{"not public: private"}},
		{"0.0.0.0/0:443", "everybody may reach the public addresses of 0.0.0.0/0, port 443", []string{"large part of the internet"}},
		{"[2600::/12]:443", "everybody may reach the public addresses of 2600::/12, port 443", []string{"large part of the internet"}},
		{"[2600:1f00::/24]:443", "everybody may reach the public addresses of 2600:1f00::/24, port 443", nil},
		{"127.0.0.1:443", "everybody may reach the address 127.0.0.1, port 443", []string{"not public: loopback"}},
		{"[::1]:443", "everybody may reach the address ::1, port 443", []string{"not public: loopback"}},
		{"[::]:443", "everybody may reach the address ::, port 443", []string{"not public: unspecified"}},
		{"[2002:a00::1]:443", "everybody may reach the address 2002:a00::1, port 443", []string{"not public: 6to4"}},
		{"[2002::/16]:443", "everybody may reach the public addresses of 2002::/16, port 443", []string{"large part of the internet"}},
		{"169.254.169.254:80", "everybody may reach the address 169.254.169.254, port 80", []string{"the service for EC2 instance metadata", "port 80"}},
		{"[fd00:ec2::23]:443", "everybody may reach the address fd00:ec2::23, port 443", []string{"the service for EKS pod credentials"}},
		{"[64:ff9b::a9fe:a9fe]:443", "everybody may reach the address 64:ff9b::a9fe:a9fe, port 443", []string{"the service for NAT64 (RFC 6052) of an address that is EC2 instance metadata"}},
	} {
		got := mustAllow(t, test.entry)[0]
		if got.Words() != test.words || len(got.Warnings()) != len(test.warnings) {
			t.Errorf("%s: %q, want %q with %d warnings", test.entry, got.Words(), test.words, len(test.warnings))
			continue
		}
		if reparsed := entriesOf(mustAllow(t, got.String())); reparsed[0] != got.String() {
			t.Errorf("%s: entry %q", test.entry, got.String())
		}
		for i, piece := range test.warnings {
			if !strings.Contains(got.Warnings()[i], piece) {
				t.Errorf("%s: warning %q, want %q", test.entry, got.Warnings()[i], piece)
			}
		}
	}
}
